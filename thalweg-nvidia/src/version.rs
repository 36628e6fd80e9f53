//! The version of an open library, from its own mouth.
//!
//! Each function asks one library with the call that NVIDIA documents for it, and nothing is initialised that
//! needs a GPU. So a version may be unknown although the library is there: that is an [`Error`] then.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::fmt;
use std::ptr;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::kind::LibraryKind;
use crate::library::Library;

/// A version in NVIDIA's counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Version {
    /// Changes with the ABI.
    pub major: u32,
    /// Changes with each release.
    pub minor: u32,
    /// Changes with each correction; `None` where there are none, as for CUDA.
    pub patch: Option<u32>,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

/// Smallest number of TensorRT's newer counting, `major * 10000 + minor * 100 + patch`, which RTX has used from
/// 1.0 and TensorRT from 10.0 on. Below it is `major * 1000 + minor * 100 + patch`, of 8 and before
/// (`NvInferVersion.h` of each).
const NEWER_TENSORRT_COUNTING: u32 = 10_000;

/// Version of TensorRT, of TensorRT for RTX or of the lean runtime.
///
/// # Errors
/// [`Error::MissingSymbol`] where the library cannot tell.
#[doc(alias = "getInferLibVersion")]
pub fn tensorrt(library: &Library) -> Result<Version> {
    Ok(tensorrt_version(tensorrt_number(library)?.unsigned_abs()))
}

/// The version as TensorRT itself counts it, which it wants back from those who create its objects.
///
/// # Errors
/// As [`tensorrt`].
pub(crate) fn tensorrt_number(library: &Library) -> Result<i32> {
    // SAFETY: `int32_t getInferLibVersion() noexcept` in NvInferRuntime.h of 8.5 to 11.4 and of RTX.
    let ask: unsafe extern "C" fn() -> i32 = unsafe { library.function("getInferLibVersion") }?;
    // SAFETY: it takes nothing, touches nothing and returns a constant.
    Ok(unsafe { ask() })
}

fn tensorrt_version(number: u32) -> Version {
    let unit = if number >= NEWER_TENSORRT_COUNTING { 10_000 } else { 1_000 };
    Version { major: number / unit, minor: number % unit / 100, patch: Some(number % 100) }
}

/// The newest CUDA version that the driver can serve. That is not the driver's own version: see
/// [`nvml_driver`].
///
/// # Errors
/// [`Error::Status`] where the driver refuses, as the stub library of the CUDA toolkit does.
#[doc(alias = "cuDriverGetVersion")]
pub fn cuda_driver(library: &Library) -> Result<Version> {
    let function = "cuDriverGetVersion";
    // SAFETY: `CUresult cuDriverGetVersion(int*)` in cuda.h; CUresult is a C enum, which is an int here.
    let ask: unsafe extern "C" fn(*mut c_int) -> c_int = unsafe { library.function(function) }?;
    let mut number = 0;
    // SAFETY: `number` is writable; NVIDIA documents that this call needs no cuInit before it.
    let code = unsafe { ask(&raw mut number) };
    check(library, function, code)?;
    Ok(cuda_version(number.unsigned_abs()))
}

/// `major * 1000 + minor * 10` (`CUDA_VERSION` in cuda.h).
fn cuda_version(number: u32) -> Version {
    Version { major: number / 1000, minor: number % 1000 / 10, patch: None }
}

/// Number of CUPTI's interface (`CUPTI_API_VERSION` in cupti_version.h). It grows with the releases, but is not
/// a version of CUDA.
///
/// # Errors
/// [`Error::Status`] where CUPTI refuses; without a CUDA driver it does, with 999.
#[doc(alias = "cuptiGetVersion")]
pub fn cupti(library: &Library) -> Result<u32> {
    let function = "cuptiGetVersion";
    // SAFETY: `CUptiResult cuptiGetVersion(uint32_t*)` in cupti_version.h; CUptiResult is an int here.
    let ask: unsafe extern "C" fn(*mut u32) -> c_int = unsafe { library.function(function) }?;
    let mut number = 0;
    // SAFETY: `number` is writable.
    let code = unsafe { ask(&raw mut number) };
    check(library, function, code)?;
    Ok(number)
}

/// `NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE` in nvml.h: what NVML's documentation says is always enough.
const DRIVER_VERSION_BUFFER_SIZE: c_uint = 80;

/// Version of the kernel's driver, for example `580.159.04`.
///
/// # Errors
/// [`Error::Status`] where the driver is not loaded or does not fit the library.
#[doc(alias = "nvmlSystemGetDriverVersion")]
pub fn nvml_driver(library: &Library) -> Result<String> {
    let function = "nvmlSystemGetDriverVersion";
    // SAFETY: `nvmlReturn_t nvmlSystemGetDriverVersion(char*, unsigned int)` in nvml.h.
    let ask: unsafe extern "C" fn(*mut c_char, c_uint) -> c_int = unsafe { library.function(function) }?;
    let _session = NvmlSession::start(library)?;
    let mut text = [0_u8; DRIVER_VERSION_BUFFER_SIZE as usize];
    // SAFETY: NVML writes at most as many bytes as it is told, the final zero included, and is initialised.
    let code = unsafe { ask(text.as_mut_ptr().cast(), DRIVER_VERSION_BUFFER_SIZE) };
    check(library, function, code)?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    Ok(String::from_utf8_lossy(&text[..end]).into_owned())
}

/// NVML between its initialisation and its shutdown. NVML counts them, so several may overlap.
struct NvmlSession {
    shutdown: unsafe extern "C" fn() -> c_int,
}

impl NvmlSession {
    #[doc(alias = "nvmlInit_v2")]
    fn start(library: &Library) -> Result<Self> {
        // SAFETY: `nvmlReturn_t nvmlShutdown(void)` in nvml.h.
        let shutdown = unsafe { library.function("nvmlShutdown") }?;
        let function = "nvmlInit_v2";
        // SAFETY: `nvmlReturn_t nvmlInit_v2(void)` in nvml.h.
        let start: unsafe extern "C" fn() -> c_int = unsafe { library.function(function) }?;
        // SAFETY: it may be called at any time and from any thread.
        let code = unsafe { start() };
        check(library, function, code)?;
        Ok(Self { shutdown })
    }
}

impl Drop for NvmlSession {
    #[doc(alias = "nvmlShutdown")]
    fn drop(&mut self) {
        // SAFETY: it closes the initialisation that `start` has opened; the library is never unloaded. That it
        // may fail changes nothing for us.
        unsafe { (self.shutdown)() };
    }
}

/// The version as text, or why it is unknown; `None` for plugins and ONNX parsers, which have none or count on
/// their own, and always go with a TensorRT of the same release.
pub(crate) fn text(library: &Library) -> Option<Result<String>> {
    match library.kind() {
        LibraryKind::CudaDriver => Some(cuda_driver(library).map(|version| format!("CUDA {version}"))),
        LibraryKind::Nvml => Some(nvml_driver(library).map(|version| format!("driver {version}"))),
        LibraryKind::Cupti => Some(cupti(library).map(|number| format!("API {number}"))),
        LibraryKind::TensorRt | LibraryKind::TensorRtRtx | LibraryKind::TensorRtLean => {
            Some(tensorrt(library).map(|version| version.to_string()))
        }
        LibraryKind::TensorRtPlugins | LibraryKind::OnnxParser | LibraryKind::OnnxParserRtx => None,
    }
}

/// CUDA, NVML and CUPTI all return 0 for success.
pub(crate) fn check(library: &Library, function: &'static str, code: c_int) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(Error::Status { function, code, name: status_name(library, code) }) }
}

/// What a library calls one of its status codes.
fn status_name(library: &Library, code: c_int) -> Option<String> {
    match library.kind() {
        LibraryKind::CudaDriver => {
            let name = text_of(name_by_pointer(library, "cuGetErrorName", code))?;
            let meaning = text_of(name_by_pointer(library, "cuGetErrorString", code));
            Some(meaning.map_or(name.clone(), |meaning| format!("{name}: {meaning}")))
        }
        LibraryKind::Cupti => text_of(name_by_pointer(library, "cuptiGetResultString", code)),
        LibraryKind::Nvml => text_of(name_by_value(library, "nvmlErrorString", code)),
        _ => None,
    }
}

/// A copy of a text constant of a library.
fn text_of(constant: Option<*const c_char>) -> Option<String> {
    let constant = constant.filter(|constant| !constant.is_null())?;
    // SAFETY: all functions that it is called for return null or a string constant of their library, which stays
    // loaded.
    let text = unsafe { CStr::from_ptr(constant) };
    Some(text.to_string_lossy().into_owned())
}

#[doc(alias = "cuGetErrorName")]
#[doc(alias = "cuptiGetResultString")]
fn name_by_pointer(library: &Library, symbol: &'static str, code: c_int) -> Option<*const c_char> {
    // SAFETY: `CUresult cuGetErrorName(CUresult, const char**)` in cuda.h, `cuGetErrorString` alike, and `CUptiResult
    // cuptiGetResultString(CUptiResult, const char**)` in cupti_result.h, the only symbols it is called with.
    let ask: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int =
        unsafe { library.function(symbol) }.ok()?;
    let mut name = ptr::null();
    // SAFETY: `name` is writable; an unknown code is refused and leaves it null.
    let refused = unsafe { ask(code, &raw mut name) };
    (refused == 0).then_some(name)
}

#[doc(alias = "nvmlErrorString")]
fn name_by_value(library: &Library, symbol: &'static str, code: c_int) -> Option<*const c_char> {
    // SAFETY: `const char* nvmlErrorString(nvmlReturn_t)` in nvml.h, the only symbol it is called with.
    let ask: unsafe extern "C" fn(c_int) -> *const c_char = unsafe { library.function(symbol) }.ok()?;
    // SAFETY: any code may be asked for, before initialisation too.
    Some(unsafe { ask(code) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::{self, Folder};

    #[test]
    fn tensorrt_counts_in_two_ways() {
        let text = |number| tensorrt_version(number).to_string();
        assert_eq!(text(8600), "8.6.0");
        assert_eq!(text(8503), "8.5.3");
        assert_eq!(text(10_701), "1.7.1");
        assert_eq!(text(101_601), "10.16.1");
        assert_eq!(text(110_400), "11.4.0");
    }

    #[test]
    fn cuda_counts_in_a_third() {
        assert_eq!(cuda_version(13_000).to_string(), "13.0");
        assert_eq!(cuda_version(12_090).to_string(), "12.9");
        assert_eq!(cuda_version(11_040).to_string(), "11.4");
    }

    #[test]
    fn a_library_without_the_function_is_an_error() {
        let folder = Folder::new("stub");
        folder.build("libcuda.so.1", "");
        let library = Library::open(LibraryKind::CudaDriver, &folder.places()).unwrap();
        let error = cuda_driver(&library).unwrap_err();
        assert!(matches!(error, Error::MissingSymbol { symbol: "cuDriverGetVersion", .. }), "{error}");
    }

    #[test]
    fn a_status_keeps_its_number_and_its_name() {
        let folder = Folder::new("status");
        folder.build("libcuda.so.1", stand_in::REFUSING_DRIVER);
        let library = Library::open(LibraryKind::CudaDriver, &folder.places()).unwrap();
        let text = cuda_driver(&library).unwrap_err().to_string();
        assert_eq!(text, "cuDriverGetVersion failed with status 34 (CUDA_ERROR_STUB_LIBRARY)");
    }

    #[test]
    fn the_driver_version_is_read_between_initialisation_and_shutdown() {
        let folder = Folder::new("nvml");
        folder.build("libnvidia-ml.so.1", stand_in::NVML);
        let library = Library::open(LibraryKind::Nvml, &folder.places()).unwrap();
        // The stand-in gives it only while it is initialised, and 1 as first digit only the first time.
        assert_eq!(nvml_driver(&library).unwrap(), "1.0");
        assert_eq!(nvml_driver(&library).unwrap(), "2.0");
    }
}
