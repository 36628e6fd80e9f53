//! What `thalweg watch -- COMMAND` puts into the processes of a command: it records what they do with CUDA.
//!
//! In: a CUDA driver that is told by `CUDA_INJECTION64_PATH` to load this library while it starts, and the environment
//! variables of [`variable`]. Out: a file of activities for each process that starts CUDA, see
//! [`thalweg_nvidia::activity`]. Where it cannot record, the file says why. It never ends the process that it is in,
//! prints nothing, and leaves the rest to whoever reads the files.

use std::env;
use std::ffi::c_int;
use std::fs::{self, File};
use std::io::{self, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use thalweg_nvidia::activity::{Entry, Writer};
use thalweg_nvidia::cupti::{Cupti, GraphDetail, Recording};
use thalweg_nvidia::{Places, SystemPlaces};

/// Names of environment variables that the watching program sets.
pub mod variable {
    /// The folder for files of activities, one for each process: `1234.activity`.
    pub const FOLDER: &str = "THALWEG_WATCH_FOLDER";
    /// Python's `site-packages` folders, where CUPTI is looked for last, separated like those of `PATH`.
    pub const SITE_PACKAGES: &str = "THALWEG_WATCH_SITE_PACKAGES";
    /// Set to [`KERNELS`](super::KERNELS) to record each kernel in a CUDA graph.
    pub const GRAPHS: &str = "THALWEG_WATCH_GRAPHS";
}

/// The value of [`variable::GRAPHS`] that records each kernel.
pub const KERNELS: &str = "kernels";

/// How the names of files of activities end.
pub const EXTENSION: &str = "activity";

/// Time between two flushes. What happened since the last one is lost in a crash; a flush takes some microseconds where
/// there is little to write.
const PERIOD: Duration = Duration::from_millis(500);

static RECORDING: OnceLock<Recording> = OnceLock::new();

unsafe extern "C" {
    /// atexit(3).
    safe fn atexit(function: extern "C" fn()) -> c_int;
}

/// Called by the CUDA driver once, while it starts. Whatever happens the process goes on: 1 tells the driver that all is
/// well.
#[unsafe(no_mangle)]
pub extern "C" fn InitializeInjection() -> c_int {
    // A panic must not reach the driver, and there is nobody to tell: the file lacks its end then.
    let _ = panic::catch_unwind(start);
    1
}

fn start() {
    let Some(folder) = env::var_os(variable::FOLDER) else { return };
    let path = PathBuf::from(folder).join(format!("{}.{EXTENSION}", process::id()));
    match record(&path) {
        Ok(recording) => {
            if RECORDING.set(recording).is_ok() {
                keep_flushing(recording);
                // What is registered last runs first: before the driver and CUPTI, which are here already, go away.
                atexit(finish);
            }
        }
        // Where no file can be written there is no way to say so; whoever watches finds none.
        Err(reason) => drop(write_reason(&path, &reason)),
    }
}

fn record(path: &Path) -> Result<Recording, String> {
    let places = Places {
        directories: Vec::new(),
        site_packages: env::var_os(variable::SITE_PACKAGES)
            .map(|folders| env::split_paths(&folders).collect())
            .unwrap_or_default(),
        system: SystemPlaces::Searched,
    };
    let is_detailed = env::var_os(variable::GRAPHS).is_some_and(|detail| detail == KERNELS);
    let graphs = if is_detailed { GraphDetail::Kernels } else { GraphDetail::Runs };
    let cupti = Cupti::open(&places).map_err(|error| error.to_string())?;
    let writer = begin(path).map_err(|error| error.to_string())?;
    Recording::start(cupti, writer, graphs).map_err(|error| error.to_string())
}

fn begin(path: &Path) -> io::Result<Writer<Box<dyn Write + Send>>> {
    let file: Box<dyn Write + Send> = Box::new(File::create(path)?);
    let program = fs::read_link("/proc/self/exe").unwrap_or_default();
    Writer::begin(file, process::id(), &program.to_string_lossy())
}

/// Writes a file that says why there is nothing in it.
fn write_reason(path: &Path, reason: &str) -> io::Result<()> {
    let mut writer = begin(path)?;
    writer.put(&Entry::Remark(format!("nothing was recorded: {reason}")));
    writer.put(&Entry::End);
    writer.flush()
}

fn keep_flushing(recording: Recording) {
    let builder = thread::Builder::new().name("thalweg-watch".to_owned());
    // Without this thread all is written as buffers fill and at the end.
    let _ = builder.spawn(move || {
        loop {
            thread::sleep(PERIOD);
            if recording.flush().is_err() {
                break;
            }
        }
    });
}

extern "C" fn finish() {
    let finished = panic::catch_unwind(|| RECORDING.get().copied().map(Recording::finish));
    // The process ends anyway; a file without its end says enough.
    drop(finished);
}
