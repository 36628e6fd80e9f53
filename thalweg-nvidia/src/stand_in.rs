//! Stand-ins for NVIDIA's libraries: small shared libraries that the tests build with the compiler that
//! builds the tests, so that finding, loading and asking are tested for real.

pub mod allocations;
pub mod cuda;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::places::{Places, SystemPlaces};

/// A temporary folder that is removed again.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("thalweg-nvidia-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        // Temporary folders are often links, and the loader gives the path behind them.
        Self(path.canonicalize().unwrap())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// This folder and nothing else.
    pub fn places(&self) -> Places {
        Places { directories: vec![self.0.clone()], system: SystemPlaces::Ignored, ..Places::default() }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A shared library from Rust source, which many tests load: built by the first one, copied by the others.
    pub fn build_once(&self, name: &str, source: &str, built: &OnceLock<Vec<u8>>) {
        let bytes = built.get_or_init(|| {
            self.build(name, source);
            fs::read(self.0.join(name)).unwrap()
        });
        self.write(name, bytes);
    }

    /// Builds a shared library from Rust source.
    pub fn build(&self, name: &str, source: &str) {
        let file = self.0.join(format!("{}.rs", name.replace(['.', '/'], "_")));
        self.write(file.file_name().unwrap().to_str().unwrap(), source.as_bytes());
        fs::create_dir_all(self.0.join(name).parent().unwrap()).unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let done = Command::new(rustc)
            .args(["--edition=2021", "--crate-name=stand_in", "--crate-type=cdylib", "-o"])
            .arg(self.0.join(name))
            .arg(file)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// TensorRT of a version.
pub fn tensorrt(number: u32) -> String {
    format!("#[no_mangle] pub extern \"C\" fn getInferLibVersion() -> i32 {{ {number} }}")
}

/// A driver that cannot tell its version, as the stub of the CUDA toolkit.
pub const REFUSING_DRIVER: &str = r#"
#[no_mangle] pub extern "C" fn cuDriverGetVersion(_: *mut i32) -> i32 { 34 }
#[no_mangle] pub unsafe extern "C" fn cuGetErrorName(_: i32, name: *mut *const u8) -> i32 {
    *name = b"CUDA_ERROR_STUB_LIBRARY\0".as_ptr();
    0
}"#;

/// NVML with a driver whose version is the number of initialisations so far.
pub const NVML: &str = r#"
static mut OPEN: u8 = 0;
static mut COUNT: u8 = 0;
#[no_mangle] pub unsafe extern "C" fn nvmlInit_v2() -> i32 { OPEN += 1; COUNT += 1; 0 }
#[no_mangle] pub unsafe extern "C" fn nvmlShutdown() -> i32 { OPEN -= 1; 0 }
#[no_mangle] pub unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut u8, length: u32) -> i32 {
    if OPEN != 1 || length < 4 { return 1; }
    *text = b'0' + COUNT;
    *text.add(1) = b'.';
    *text.add(2) = b'0';
    *text.add(3) = 0;
    0
}"#;
