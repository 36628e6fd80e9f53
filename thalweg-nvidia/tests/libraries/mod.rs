//! The parts of TensorRT that `scripts/fetch-tensorrt.py` fetches, for the tests that use them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use thalweg_nvidia::tensorrt::{Flavour, LogSink, Severity, TensorRt};
use thalweg_nvidia::{Places, SystemPlaces};

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What a TensorRT said.
pub type Lines = Arc<Mutex<Vec<(Severity, String)>>>;

/// Opens one of them, or says on the terminal that the test is skipped.
pub fn open(flavour: Flavour, name: &str) -> Option<(TensorRt, Lines)> {
    let folder = root().join(".tensorrt").join(name);
    if !folder.is_dir() {
        // Not a print: the test harness would swallow that.
        let mut terminal = std::io::stderr();
        writeln!(terminal, "SKIPPED: no {}; scripts/fetch-tensorrt.py fetches it", folder.display()).unwrap();
        return None;
    }
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    let sink: LogSink =
        Arc::new(move |severity, text| kept.lock().unwrap().push((severity, text.to_owned())));
    // The driver is found where the system has it, TensorRT in this folder and nowhere before.
    let places =
        Places { directories: vec![folder.clone()], system: SystemPlaces::Searched, ..Places::default() };
    let opened = TensorRt::open_flavour(flavour, &places, Some(sink)).unwrap();
    assert!(opened.path().starts_with(&folder), "{}", opened.path().display());
    Some((opened, lines))
}
