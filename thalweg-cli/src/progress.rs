//! The progress bars of a search and of a build, and the signal that ends one early.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use thalweg::backend::{BuildEvent, BuildWatch};
use thalweg::measure::StopSignal;
use thalweg::tune::Progress;

use crate::output::Output;
use crate::pulse::{self, Pulse};

/// A bar on a terminal, nothing elsewhere.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar over the time that a search may take.
    pub fn over(budget: Duration, output: &Output) -> Self {
        if !output.shows_progress() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(u64::try_from(budget.as_millis()).unwrap_or(u64::MAX));
        bar.set_style(bar_style());
        Self(bar)
    }

    /// A spinner with a message, for work of unknown length.
    pub fn spin(message: String, output: &Output) -> Self {
        if !output.shows_progress() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(message);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Says what goes on now.
    pub fn say(&self, message: &str) {
        self.0.set_message(message.to_owned());
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }

    /// Shows what a search does now.
    pub fn show(&self, progress: &Progress<'_>) {
        match progress {
            Progress::Measuring { round, contender_count, configuration, elapsed } => {
                self.0.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
                self.0.set_message(format!("round {}, {contender_count} left: {configuration}", round + 1));
            }
            Progress::Confirming { configuration, step, step_count } => {
                self.0.set_message(format!("final {} of {step_count}: {configuration}", step + 1));
            }
            Progress::LastLook { configuration } => {
                self.0.set_message(format!("winner: {configuration}"));
            }
            Progress::Started { .. } | Progress::Measured { .. } | Progress::Dropped { .. } => {}
        }
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:24} {elapsed:>4} {wide_msg}").expect("bug: the template is fixed")
}

/// The exit code of a program that Ctrl-C has ended: 128 + SIGINT, as a shell reports it.
pub const INTERRUPTED: u8 = 130;

/// What Ctrl-C and SIGTERM do. The first asks to end with what there is; the second ends the process at once, as
/// without this. A build that cannot be stopped leaves no choice: then the first does.
pub struct Interrupts {
    /// Set by the first.
    pub stop: StopSignal,
    is_unstoppable: Arc<AtomicBool>,
}

impl Interrupts {
    /// Takes the signals over for the rest of the process.
    pub fn catch() -> anyhow::Result<Self> {
        let interrupts = Self { stop: StopSignal::default(), is_unstoppable: Arc::default() };
        let (stop, is_unstoppable) = (interrupts.stop.clone(), Arc::clone(&interrupts.is_unstoppable));
        ctrlc::set_handler(move || {
            let ends_a_build = is_unstoppable.load(Ordering::Relaxed);
            if ends_a_build {
                // Nothing can be said where stderr is closed.
                let _ = writeln!(
                    io::stderr(),
                    "error: interrupted; this TensorRT cannot stop a build, so the process ends and there is no engine"
                );
            }
            if ends_a_build || stop.is_requested() {
                std::process::exit(INTERRUPTED.into());
            }
            stop.request();
        })?;
        Ok(interrupts)
    }

    /// A bar for builds of an engine, and who moves it. The first signal stops a build.
    pub fn watch(&self, name: &str, output: &Output) -> (Bar, BuildWatch) {
        let bar = Bar::spin(format!("preparing {name}"), output);
        let shown = BuildBar {
            work: format!("building {name}"),
            bar: bar.0.clone(),
            pulse: Mutex::new(None),
            output: *output,
            has_told_to_wait: AtomicBool::new(false),
            is_unstoppable: Arc::clone(&self.is_unstoppable),
        };
        let stop = self.stop.clone();
        let watch = BuildWatch::new(move |event| {
            shown.show(event);
            if stop.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (bar, watch)
    }
}

/// A builder's progress: a bar where it tells how far it is, else a spinner with the last line of its log. Without a
/// terminal, a line from time to time.
struct BuildBar {
    work: String,
    bar: ProgressBar,
    // Contended by the threads of a builder that speaks from several.
    pulse: Mutex<Option<Pulse>>,
    output: Output,
    has_told_to_wait: AtomicBool,
    is_unstoppable: Arc<AtomicBool>,
}

impl BuildBar {
    /// Steps of the bar.
    const LENGTH: u64 = 1000;

    fn show(&self, event: BuildEvent<'_>) {
        match event {
            BuildEvent::Waiting => {
                if !self.has_told_to_wait.swap(true, Ordering::Relaxed) {
                    self.tell(|output| output.note("another process builds the same engine: waiting for it"));
                }
            }
            BuildEvent::Started { can_stop } => {
                self.is_unstoppable.store(!can_stop, Ordering::Relaxed);
                self.start_pulse();
            }
            BuildEvent::Progress { phase, fraction } => {
                self.move_to(phase, fraction);
                self.hear(|| format!("{phase}, {:.0} % done", fraction * 100.0));
            }
            BuildEvent::Remark(remark) => self.tell(|output| output.warning(remark)),
            BuildEvent::Said(line) => {
                self.hear(|| line.to_owned());
                if self.bar.length().is_none() {
                    self.bar.set_message(line.to_owned());
                }
            }
            BuildEvent::Ended => {
                self.is_unstoppable.store(false, Ordering::Relaxed);
                *self.pulse() = None;
            }
        }
    }

    fn start_pulse(&self) {
        if self.output.shows_pulse() {
            let output = self.output;
            let write = Box::new(move |line: &str| output.note(line));
            *self.pulse() = Some(Pulse::start(self.work.clone(), pulse::PERIOD, write));
        }
    }

    fn hear(&self, line: impl FnOnce() -> String) {
        if let Some(pulse) = &*self.pulse() {
            pulse.hear(line());
        }
    }

    fn pulse(&self) -> MutexGuard<'_, Option<Pulse>> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
    fn move_to(&self, phase: &str, fraction: f64) {
        if self.bar.length().is_none() {
            self.bar.set_length(Self::LENGTH);
            self.bar.set_style(bar_style());
        }
        self.bar.set_position((fraction * Self::LENGTH as f64) as u64);
        self.bar.set_message(phase.to_owned());
    }

    fn tell(&self, tell: impl FnOnce(&Output)) {
        self.bar.suspend(|| tell(&self.output));
    }
}
