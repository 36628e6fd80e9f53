//! Recording what this process asks of its device and what the device does for it: each kernel, copy and call.
//!
//! In: where CUPTI may be, and some work to do meanwhile. Out: a file of activities in memory, of the same kind as the
//! processes of a watched command leave, so `watch` reads both. What it says is left to whoever reads it.

use std::io::{self, Write};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use thalweg_nvidia::activity::Writer;
use thalweg_nvidia::cupti::{Cupti, Recording};

use super::Surroundings;
use crate::error::Result;

pub use thalweg_nvidia::cupti::GraphDetail;

/// The most that is kept: some two million activities, which take a reader several times as much.
const MOST_BYTES: u64 = 200_000_000;

/// Records one device's work, as often as it is asked to, one time after the other.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Where the libraries are, and the device by its UUID.
    pub surroundings: Surroundings,
    /// The device's streaming multiprocessors.
    pub sm_count: u32,
}

impl Recorder {
    /// For the device of this UUID with so many SMs. CUPTI is looked for when it is needed.
    pub fn new(surroundings: &Surroundings, uuid: &str, sm_count: u32) -> Self {
        Self {
            surroundings: Surroundings { device: Some(uuid.to_owned()), ..surroundings.clone() },
            sm_count,
        }
    }

    /// Whether there is a CUPTI to record with, so that nobody measures what it costs where there is none.
    ///
    /// # Errors
    /// [`Error::Nvidia`](crate::Error::Nvidia) where there is none.
    pub fn check(&self) -> Result<()> {
        Cupti::open(&self.surroundings.places())?;
        Ok(())
    }

    /// Does some work and gives what was recorded meanwhile, as a file of activities. Where that cannot be, the work is
    /// not done.
    ///
    /// # Errors
    /// [`Error::Nvidia`](crate::Error::Nvidia) where there is no CUPTI, or somebody else uses it.
    pub fn record<T>(&self, graphs: GraphDetail, work: impl FnOnce() -> T) -> Result<(T, Vec<u8>)> {
        let cupti = Cupti::open(&self.surroundings.places())?;
        let kept = Kept::default();
        let file: Box<dyn Write + Send> = Box::new(kept.clone());
        let writer = Writer::begin(file, process::id(), "thalweg").expect("bug: memory can be written");
        let writer = writer.at_most(MOST_BYTES);
        let running = Running(Recording::start(cupti, writer, graphs)?);
        let done = work();
        drop(running);
        Ok((done, kept.take()))
    }
}

/// A recording that stops also where the work panics: else CUPTI would record on, and nobody could start another.
struct Running(Recording);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A file in memory.
// Contended by CUPTI's thread, which writes, and ours, which reads once that has stopped.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
