//! Real runtimes of the families 10 and 11 without a GPU: loading, the logger, and the trap of a missing driver.

mod libraries;

use thalweg_nvidia::tensorrt::{Family, Flavour, Severity};
use thalweg_nvidia::{Error, Library, LibraryKind, Places};

use libraries::open;

/// What each lean runtime does where there is no driver, and with a driver, whichever this machine has.
fn check(name: &str, family: Family, version: &str) {
    let Some((tensorrt, lines)) = open(Flavour::Lean, name) else { return };
    assert_eq!(tensorrt.family(), family);
    assert!(tensorrt.version().to_string().starts_with(version), "{}", tensorrt.version());
    assert!(matches!(tensorrt.builder().err(), Some(Error::NoBuilder { .. })));
    match tensorrt.runtime() {
        Ok(runtime) => {
            let text = runtime.deserialize_engine(&[7; 4096]).err().unwrap().to_string();
            assert!(text.starts_with("TensorRT cannot load the engine: "), "{text}");
        }
        Err(error) => {
            assert!(!has_driver(), "{error}");
            let text = error.to_string();
            assert!(text.starts_with("TensorRT cannot create a runtime: "), "{text}");
            // TensorRT's own words, and the reason behind them.
            assert!(text.contains("CUDA"), "{text}");
            assert!(text.contains("libcuda.so.1"), "{text}");
        }
    }
    let lines = lines.lock().unwrap();
    assert!(lines.iter().any(|(severity, _)| *severity <= Severity::Error), "the logger was not called");
}

fn has_driver() -> bool {
    Library::open(LibraryKind::CudaDriver, &Places::default()).is_ok()
}

#[test]
fn lean_10_is_loaded_called_and_refuses_with_text() {
    check("lean-10.16", Family::TensorRt10, "10.16.");
}

#[test]
fn lean_11_is_loaded_called_and_refuses_with_text() {
    check("lean-11.4", Family::TensorRt11, "11.4.");
}
