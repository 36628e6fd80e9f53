//! Plugins: layers that TensorRT's own library does not have.
//!
//! In: TensorRT's library of standard plugins, or somebody's file. Out: builders and runtimes that are made
//! afterwards know the layers. The registry is one for the whole process, and nothing leaves it here.

use std::ffi::{CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::abi::{Family, calls};
use super::object::Object;
use super::session::Session;
use crate::error::{Error, Result};
use crate::library::{Library, Loaded, exports};

/// What a library exports that the registry shall load (NvInferPluginBase.h): the first one until 8.6 and for
/// old plugins later, the second from 10 on.
const ENTRANCES: [&str; 2] = ["getPluginCreators", "getCreators"];

/// Registers TensorRT's own plugins under no namespace, as models and `trtexec` expect them. A second time
/// changes nothing.
///
/// # Errors
/// [`Error::MissingSymbol`] where this is no such library, [`Error::TensorRt`] where it refuses.
#[doc(alias = "initLibNvInferPlugins")]
pub(super) fn register_standard(session: &Session, plugins: &Library) -> Result<()> {
    type Register = unsafe extern "C" fn(*mut c_void, *const c_char) -> bool;
    session.require_driver("register its own plugins")?;
    // SAFETY: `bool initLibNvInferPlugins(void*, char const*)` in NvInferPlugin.h of every version.
    let register: Register = unsafe { plugins.function("initLibNvInferPlugins") }?;
    // SAFETY: the logger lives for ever.
    let (is_done, said) = session.listen(|| unsafe { register(session.logger(), c"".as_ptr()) });
    if is_done { Ok(()) } else { Err(session.refusal("register its own plugins", said)) }
}

/// Loads a library of plugins. Most register themselves as they are loaded; those that do not, and have an
/// entrance for the registry instead, go through it. One that is in this process already is left as it is.
///
/// # Errors
/// [`Error::CannotLoadPlugins`] with what the loader or the registry said.
#[doc(alias = "IPluginRegistry::loadLibrary")]
pub(super) fn load(session: &Session, file: &Path) -> Result<()> {
    let refused = |reason| Error::CannotLoadPlugins { path: file.to_owned(), reason };
    let before = registered_count(session)?;
    let loaded = match Loaded::open(file).map_err(refused)? {
        Loaded::New(loaded) => loaded,
        // The registry refuses what it has.
        Loaded::Before => return Ok(()),
    };
    let has_registered = registered_count(session)? != before;
    let has_entrance = ENTRANCES.iter().any(|symbol| exports(&loaded, symbol));
    // 8.6.0 has `loadLibrary` in another place than 8.6.1.
    if has_registered || !has_entrance || session.abi().family == Family::TensorRt8 {
        return Ok(());
    }
    let path = CString::new(file.as_os_str().as_bytes())
        .map_err(|_| Error::ZeroInText { text: file.display().to_string() })?;
    let registry = registry(session)?;
    // SAFETY: registry and path live; NVIDIA calls the registry thread-safe.
    let (handle, said) =
        session.listen(|| unsafe { calls::plugin_registry::load_library(registry, path.as_ptr()) });
    if handle?.is_null() { Err(refused(session.refusal("register them", said).to_string())) } else { Ok(()) }
}

/// How many plugins there are. 8 does not tell those of all kinds, and needs not: see [`load`].
fn registered_count(session: &Session) -> Result<i32> {
    if session.abi().family == Family::TensorRt8 {
        return Ok(0);
    }
    let mut count = 0;
    let registry = registry(session)?;
    // SAFETY: the registry lives, and the count is writable.
    unsafe { calls::plugin_registry::all_creators(registry, &raw mut count) }?;
    Ok(count)
}

/// The registry of the process. It belongs to TensorRT.
fn registry(session: &Session) -> Result<Object> {
    type Registry = unsafe extern "C" fn() -> *mut c_void;
    // SAFETY: `IPluginRegistry* getPluginRegistry()` in NvInferRuntime.h of every version.
    let registry: Registry = unsafe { session.library().function("getPluginRegistry") }?;
    // SAFETY: it takes nothing and changes nothing.
    let (address, said) = session.listen(|| unsafe { registry() });
    Object::new(address, session.abi()).ok_or_else(|| session.refusal("give its plugin registry", said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::{self, Folder};
    use crate::tensorrt::TensorRt;

    /// TensorRT 10.16 with a registry that has no plugins and takes libraries called `good`.
    fn tensorrt(folder: &Folder) -> TensorRt {
        let registry = r#"
            static mut VTABLE: [usize; 19] = [0; 19];
            static mut OBJECT: [usize; 1] = [0];
            unsafe extern "C" fn load(_: usize, path: *const i8) -> usize {
                let path = std::ffi::CStr::from_ptr(path.cast()).to_string_lossy().into_owned();
                usize::from(path.ends_with("/good.so"))
            }
            unsafe extern "C" fn all(_: usize, count: *mut i32) -> usize {
                *count = 0;
                0
            }
            #[no_mangle] pub unsafe extern "C" fn getPluginRegistry() -> usize {
                VTABLE[10] = load as usize;
                VTABLE[13] = all as usize;
                OBJECT[0] = std::ptr::addr_of!(VTABLE) as usize;
                std::ptr::addr_of!(OBJECT) as usize
            }"#;
        folder.build("libnvinfer.so.10", &format!("{}\n{registry}", stand_in::tensorrt(101_601)));
        TensorRt::open(&folder.places()).unwrap()
    }

    fn standard(answer: bool) -> String {
        format!(
            r#"#[no_mangle] pub unsafe extern "C" fn initLibNvInferPlugins(logger: usize, space: *const u8) -> bool {{
                assert!(logger != 0 && *space == 0);
                {answer}
            }}"#
        )
    }

    const WITH_ENTRANCE: &str = r#"#[no_mangle] pub extern "C" fn getCreators(_: *mut i32) -> usize { 0 }"#;

    #[test]
    fn its_own_plugins_are_registered_where_they_are() {
        let folder = Folder::new("standard-plugins");
        folder.build("libnvinfer_plugin.so.10", &standard(true));
        assert_eq!(tensorrt(&folder).check_plugins(), Ok(()));
    }

    #[test]
    fn plugins_that_are_absent_or_refused_are_a_value() {
        let folder = Folder::new("no-plugins");
        let absent = tensorrt(&folder).check_plugins().unwrap_err();
        assert!(matches!(absent, Error::NotFound { .. }), "{absent}");
        assert!(absent.to_string().contains("libnvinfer_plugin.so.10"), "{absent}");
        folder.build("libnvinfer_plugin.so.10", &standard(false));
        let refused = TensorRt::open(&folder.places()).unwrap().check_plugins().unwrap_err();
        assert!(refused.to_string().starts_with("TensorRT cannot register its own plugins: "), "{refused}");
    }

    #[test]
    fn a_library_with_an_entrance_goes_through_the_registry() {
        let folder = Folder::new("entrance");
        folder.build("good.so", WITH_ENTRANCE);
        folder.build("bad.so", WITH_ENTRANCE);
        folder.build("plain_bad.so", "");
        let tensorrt = tensorrt(&folder);
        assert_eq!(tensorrt.load_plugins(&folder.path().join("good.so")), Ok(()));
        // Without an entrance there is nothing that the registry could ask.
        assert_eq!(tensorrt.load_plugins(&folder.path().join("plain_bad.so")), Ok(()));
        let error = tensorrt.load_plugins(&folder.path().join("bad.so")).unwrap_err();
        assert!(
            matches!(&error, Error::CannotLoadPlugins { path, .. } if path.ends_with("bad.so")),
            "{error}"
        );
        assert!(error.to_string().contains("TensorRT cannot register them"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_in_the_loaders_words() {
        let folder = Folder::new("no-library");
        folder.write("text.so", b"no library");
        let error = tensorrt(&folder).load_plugins(&folder.path().join("text.so")).unwrap_err();
        assert!(error.to_string().contains("text.so cannot be loaded: "), "{error}");
    }
}
