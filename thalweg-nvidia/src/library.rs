//! Opening one library and getting functions out of it.
//!
//! In: a [`LibraryKind`] and the [`Places`]. Out: a [`Library`] that stays loaded until the process ends.
//! What its functions mean is left to the modules that call them.

use std::error::Error as _;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::kind::LibraryKind;
use crate::places::{Place, Places};

/// One of NVIDIA's libraries, loaded into this process.
///
/// It is never unloaded: drivers and TensorRT start threads and register exit handlers, and both would run
/// into unmapped memory. Opening the same file again costs next to nothing.
#[derive(Debug)]
pub struct Library {
    kind: LibraryKind,
    soname: &'static str,
    path: PathBuf,
    rejected: Vec<Rejected>,
    handle: ManuallyDrop<libloading::Library>,
}

/// A file that has the right name but cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// The file, or its bare name where the loader found it by itself.
    pub path: PathBuf,
    /// What the loader said.
    pub reason: String,
}

impl Library {
    /// Opens the first version found; see [`Places`] for the order. ONNX parsers need their TensorRT, so open
    /// that first: then they find it whatever folder it is in.
    ///
    /// # Errors
    /// [`Error::NotFound`] where no place has it, [`Error::CannotLoad`] where the loader refuses all there are.
    pub fn open(kind: LibraryKind, places: &Places) -> Result<Self> {
        Self::open_first(kind, kind.sonames().to_vec(), places)
    }

    /// As [`open`](Self::open), but only the version whose file name ends in this number.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_major(kind: LibraryKind, major: u32, places: &Places) -> Result<Self> {
        let sonames = kind.sonames().iter().copied().filter(|soname| soname_major(soname) == Some(major));
        Self::open_first(kind, sonames.collect(), places)
    }

    /// The major version of a library that this process has already, whoever has loaded it; `None` where it has none.
    pub(crate) fn loaded_major(kind: LibraryKind) -> Option<u32> {
        let loaded = kind.sonames().iter().find(|soname| is_loaded(Path::new(soname)));
        loaded.and_then(|soname| soname_major(soname))
    }

    /// Which library it is.
    pub fn kind(&self) -> LibraryKind {
        self.kind
    }

    /// The name it was found under, for example `libnvinfer.so.10`.
    pub fn soname(&self) -> &'static str {
        self.soname
    }

    /// The number at the end of that name: the major version of its ABI.
    pub fn major(&self) -> Option<u32> {
        soname_major(self.soname)
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Files of the right name that came before it in the search and could not be loaded.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// A function of the library. It may be kept, because the library is never unloaded.
    ///
    /// # Errors
    /// [`Error::MissingSymbol`] where this version has none.
    ///
    /// # Safety
    /// - `Function` is an `unsafe extern "C" fn` type.
    /// - Its parameters and its result are those that NVIDIA documents for `symbol`, in every version of the
    ///   library that [`LibraryKind::sonames`] lists.
    pub(crate) unsafe fn function<Function: Copy>(&self, symbol: &'static str) -> Result<Function> {
        // SAFETY: the type is that of the function, as the caller promises.
        let found = unsafe { self.handle.get::<Function>(symbol) };
        found.map(|function| *function).map_err(|_| self.missing(symbol))
    }

    pub(crate) fn missing(&self, symbol: &'static str) -> Error {
        Error::MissingSymbol { path: self.path.clone(), symbol }
    }

    fn open_first(kind: LibraryKind, sonames: Vec<&'static str>, places: &Places) -> Result<Self> {
        let order = places.in_order();
        let mut rejected = Vec::new();
        for (candidate, soname) in order.iter().flat_map(|place| candidates(place, &sonames)) {
            match load(&candidate) {
                Ok(Some(handle)) => {
                    let handle = ManuallyDrop::new(handle);
                    let path = loaded_from(&handle, kind.landmark()).unwrap_or(candidate);
                    return Ok(Self { kind, soname, path, rejected, handle });
                }
                Ok(None) => {}
                Err(reason) => rejected.push(Rejected { path: candidate, reason }),
            }
        }
        let searched = order.iter().flat_map(Place::names).collect();
        Err(rejected.into_iter().next().map_or(
            Error::NotFound { library: kind, sonames, searched },
            |first| Error::CannotLoad { library: kind, path: first.path, reason: first.reason },
        ))
    }
}

/// A file of somebody else's in this process. It stays there.
pub(crate) enum Loaded {
    /// It was loaded before.
    Before,
    /// It was loaded now.
    New(ManuallyDrop<libloading::Library>),
}

impl Loaded {
    /// Loads it, which runs its initialisers, unless it is there already.
    ///
    /// # Errors
    /// What the loader said, or that there is no such file.
    pub(crate) fn open(file: &Path) -> Result<Self, String> {
        if is_loaded(file) {
            return Ok(Self::Before);
        }
        let loaded = load(file)?.ok_or_else(|| format!("no file {}", file.display()))?;
        Ok(Self::New(ManuallyDrop::new(loaded)))
    }
}

/// Whether a file is in this process already.
fn is_loaded(file: &Path) -> bool {
    /// `RTLD_NOLOAD` of dlfcn.h on Linux: look, but do not load.
    const NO_LOAD: c_int = 4;
    let flags = libloading::os::unix::RTLD_NOW | NO_LOAD;
    // SAFETY: nothing is loaded, so no initialiser runs.
    let found = unsafe { libloading::os::unix::Library::open(Some(file), flags) };
    // What was found is one more reference to it, which is given back here.
    found.is_ok()
}

/// Whether a library has a function of this name.
pub(crate) fn exports(library: &libloading::Library, symbol: &str) -> bool {
    // SAFETY: a pointer to a function may be looked up as a pointer to nothing in particular; it is not called.
    unsafe { library.get::<*const c_void>(symbol) }.is_ok()
}

/// The files to try in one place, newest first, each with the name it goes by.
fn candidates(place: &Place, sonames: &[&'static str]) -> Vec<(PathBuf, &'static str)> {
    let files = sonames.iter().flat_map(|soname| match place {
        Place::Loader => vec![(PathBuf::from(soname), *soname)],
        Place::Folders(folders) => folders
            .iter()
            .map(|folder| (folder.join(soname), *soname))
            .filter(|(file, _)| file.is_file())
            .collect(),
    });
    files.collect()
}

/// Loads a file; `None` where there is none, or why the loader refuses it.
fn load(file: &Path) -> Result<Option<libloading::Library>, String> {
    // SAFETY: loading runs the file's initialisers. It has the name of one of NVIDIA's libraries and lies in a
    // folder that the caller or the system trusts (`Places`), so it is taken for that library.
    match unsafe { libloading::Library::new(file) } {
        Ok(handle) => Ok(Some(handle)),
        Err(error) => {
            // What the loader said is in the source; the error itself only says that it failed.
            let text = error.source().unwrap_or(&error).to_string();
            let is_absent = file.parent() == Some(Path::new("")) && says_absent(&text, file);
            if is_absent { Ok(None) } else { Err(text) }
        }
    }
}

/// Whether the loader found no such file on its path. Where it misses another file, that this one needs, it
/// names the other.
fn says_absent(text: &str, file: &Path) -> bool {
    text.contains(&*file.to_string_lossy()) && text.to_lowercase().contains("no such file")
}

/// The number at the end of a name like `libcupti.so.13`.
fn soname_major(soname: &str) -> Option<u32> {
    soname.rsplit('.').next()?.parse().ok()
}

/// `Dl_info` of `dladdr(3)`.
#[repr(C)]
struct AddressInfo {
    file: *const c_char,
    base: *mut c_void,
    symbol: *const c_char,
    symbol_address: *mut c_void,
}

/// The file that a library was loaded from, by asking the loader who owns the address of `landmark`. `None`
/// where the library lacks it or the C library has no `dladdr`.
#[doc(alias = "dladdr")]
fn loaded_from(library: &libloading::Library, landmark: &str) -> Option<PathBuf> {
    type OwnerOf = unsafe extern "C" fn(*const c_void, *mut AddressInfo) -> c_int;
    // SAFETY: a pointer to a function may be looked up as a pointer to nothing in particular; it is not called.
    let address = unsafe { library.get::<*const c_void>(landmark) }.ok()?;
    let process = libloading::os::unix::Library::this();
    // SAFETY: `OwnerOf` is the type that dladdr(3) documents, on glibc, musl and macOS alike.
    let owner_of = unsafe { process.get::<OwnerOf>("dladdr") }.ok()?;
    let mut info = AddressInfo {
        file: ptr::null(),
        base: ptr::null_mut(),
        symbol: ptr::null(),
        symbol_address: ptr::null_mut(),
    };
    // SAFETY: `info` is writable and has the layout of `Dl_info`; any address may be asked for.
    let is_known = unsafe { owner_of(*address, &raw mut info) } != 0;
    if !is_known || info.file.is_null() {
        return None;
    }
    // SAFETY: dladdr has set it to a string that lives as long as the library is loaded, and `library` is.
    let file = unsafe { CStr::from_ptr(info.file) };
    Some(PathBuf::from(OsStr::from_bytes(file.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::{self, Folder};
    use crate::version;

    #[test]
    fn an_empty_folder_is_an_error_with_the_place_and_a_remedy() {
        let folder = Folder::new("empty");
        let error = Library::open(LibraryKind::TensorRt, &folder.places()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::NotFound { .. }), "{text}");
        assert!(text.contains(&folder.path().display().to_string()), "{text}");
        assert!(text.contains("libnvinfer.so.10") && text.contains("install TensorRT"), "{text}");
    }

    #[test]
    fn a_library_that_the_loader_does_not_know_is_not_found() {
        assert_eq!(load(Path::new("libthalweg-does-not-exist.so.1")).map(|found| found.is_some()), Ok(false));
    }

    #[test]
    fn a_damaged_file_is_named_with_what_the_loader_said() {
        let folder = Folder::new("damaged");
        folder.write("libcupti.so.13", b"not a library");
        let error = Library::open(LibraryKind::Cupti, &folder.places()).unwrap_err();
        let Error::CannotLoad { path, reason, .. } = error else { panic!("unexpected: {error}") };
        assert_eq!(path, folder.path().join("libcupti.so.13"));
        assert!(!reason.is_empty());
    }

    #[test]
    fn a_library_knows_its_file_and_its_version() {
        let folder = Folder::new("opened");
        folder.build("libnvinfer.so.10", &stand_in::tensorrt(101_601));
        let library = Library::open(LibraryKind::TensorRt, &folder.places()).unwrap();
        assert_eq!(library.path(), folder.path().join("libnvinfer.so.10"));
        assert_eq!((library.soname(), library.major()), ("libnvinfer.so.10", Some(10)));
        assert_eq!(version::tensorrt(&library).unwrap().to_string(), "10.16.1");
    }

    #[test]
    fn a_damaged_newer_file_does_not_hide_an_older_one_and_is_told() {
        let folder = Folder::new("older");
        folder.write("libnvinfer.so.11", b"half a download");
        folder.build("libnvinfer.so.8", &stand_in::tensorrt(8600));
        let library = Library::open(LibraryKind::TensorRt, &folder.places()).unwrap();
        assert_eq!(library.soname(), "libnvinfer.so.8");
        assert_eq!(library.rejected()[0].path, folder.path().join("libnvinfer.so.11"));
    }

    #[test]
    fn only_the_asked_major_version_is_opened() {
        let folder = Folder::new("major");
        folder.build("libnvonnxparser.so.8", "");
        let open = |major| Library::open_major(LibraryKind::OnnxParser, major, &folder.places());
        assert_eq!(open(8).unwrap().soname(), "libnvonnxparser.so.8");
        let Error::NotFound { sonames, .. } = open(10).unwrap_err() else { panic!("there is no version 10") };
        assert_eq!(sonames, ["libnvonnxparser.so.10"]);
    }
}
