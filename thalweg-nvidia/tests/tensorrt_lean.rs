//! Real runtimes of the families 8, 10 and 11 without a GPU: loading, the logger, and the trap of a missing
//! driver.
#![expect(clippy::unwrap_used, reason = "it is a test; its first functions are no `#[test]` themselves")]

mod libraries;

use std::io::Write as _;

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
    // Without a driver 8.6 gives null and not a word.
    let is_silent = family == Family::TensorRt8 && !has_driver();
    let was_called = lines.iter().any(|(severity, _)| *severity <= Severity::Error);
    assert_eq!(was_called, !is_silent, "{lines:?}");
}

/// NVIDIA's own plugins for lean engines leave it to the registry to register them.
fn check_plugins(name: &str, major: u32) {
    let Some((tensorrt, _)) = open(Flavour::Lean, name) else { return };
    let file = tensorrt.path().with_file_name(format!("libnvinfer_vc_plugin.so.{major}"));
    if !file.is_file() {
        let mut terminal = std::io::stderr();
        writeln!(terminal, "SKIPPED: no {}; scripts/fetch-tensorrt.py fetches it", file.display()).unwrap();
        return;
    }
    assert_eq!(
        tensorrt.check_plugins().unwrap_err(),
        Error::NoPluginLibrary { tensorrt: LibraryKind::TensorRtLean }
    );
    assert_eq!(tensorrt.load_plugins(&file), Ok(()));
    // The registry would refuse it.
    assert_eq!(tensorrt.load_plugins(&file), Ok(()));
}

fn has_driver() -> bool {
    Library::open(LibraryKind::CudaDriver, &Places::default()).is_ok()
}

#[test]
fn lean_8_is_loaded_called_and_refuses_with_text() {
    check("lean-8.6", Family::TensorRt8, "8.6.");
}

#[test]
fn lean_10_is_loaded_called_and_refuses_with_text() {
    check("lean-10.16", Family::TensorRt10, "10.16.");
}

#[test]
fn plugins_go_through_the_registry_of_10() {
    check_plugins("lean-10.16", 10);
}

#[test]
fn plugins_go_through_the_registry_of_11() {
    check_plugins("lean-11.4", 11);
}

#[test]
fn lean_11_is_loaded_called_and_refuses_with_text() {
    check("lean-11.4", Family::TensorRt11, "11.4.");
}
