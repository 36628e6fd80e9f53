//! Between TensorRT, which tells how far a build is, and whoever watches it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thalweg_nvidia::tensorrt::{BuilderConfig, LogSink, Severity};

use super::progress::OpenPhases;
use crate::backend::{BuildEvent, BuildWatch};
use crate::error::{Error, Result};

/// Passes lines of TensorRT's log on to whoever watches a build just now: the log is one for the whole process.
#[derive(Clone, Default)]
pub(super) struct LogRelay(Arc<Mutex<Option<Listener>>>);

#[derive(Clone)]
struct Listener {
    watch: BuildWatch,
    /// The least important lines that it hears.
    least: Severity,
}

impl LogRelay {
    /// What TensorRT writes its log to.
    pub fn sink(&self) -> LogSink {
        let relay = self.clone();
        Arc::new(move |severity, line| {
            // The lock is not held while the watch works: it may take its time.
            let listener = relay.listener().clone();
            if let Some(listener) = listener.filter(|listener| severity <= listener.least) {
                // A line of the log is no place to stop at.
                let _ = listener.watch.tell(BuildEvent::Said(line));
            }
        })
    }

    fn listener(&self) -> std::sync::MutexGuard<'_, Option<Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build that is watched, until it is dropped.
pub(super) struct WatchedBuild {
    watch: BuildWatch,
    log: LogRelay,
    was_stopped: Arc<AtomicBool>,
}

impl WatchedBuild {
    /// Lets `watch` hear of the build that this configuration is for.
    ///
    /// # Errors
    /// In TensorRT's own words.
    pub fn start(config: &mut BuilderConfig, watch: &BuildWatch, log: &LogRelay) -> Result<Self> {
        let was_stopped = Arc::new(AtomicBool::new(false));
        let can_stop = match report(config, watch, &was_stopped) {
            Ok(()) => true,
            Err(thalweg_nvidia::Error::NotInThisVersion { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if watch.tell(BuildEvent::Started { can_stop }).is_break() {
            return Err(Error::BuildStopped);
        }
        // TensorRT 8 tells nothing but its log, and at `Info` that is silent for minutes.
        let least = if can_stop { Severity::Info } else { Severity::Verbose };
        *log.listener() = Some(Listener { watch: watch.clone(), least });
        Ok(Self { watch: watch.clone(), log: log.clone(), was_stopped })
    }

    /// Whether the watch has stopped it.
    pub fn was_stopped(&self) -> bool {
        self.was_stopped.load(Ordering::Relaxed)
    }
}

fn report(
    config: &mut BuilderConfig,
    watch: &BuildWatch,
    was_stopped: &Arc<AtomicBool>,
) -> thalweg_nvidia::Result<()> {
    let phases = Mutex::new(OpenPhases::default());
    let (watch, was_stopped) = (watch.clone(), Arc::clone(was_stopped));
    config.report_progress(Arc::new(move |progress| {
        let mut phases = phases.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((phase, fraction)) = phases.take(progress) else { return ControlFlow::Continue(()) };
        let goes_on = watch.tell(BuildEvent::Progress { phase, fraction });
        was_stopped.fetch_or(goes_on.is_break(), Ordering::Relaxed);
        goes_on
    }))
}

impl Drop for WatchedBuild {
    fn drop(&mut self) {
        *self.log.listener() = None;
        // There is nothing left to stop.
        let _ = self.watch.tell(BuildEvent::Ended);
    }
}
