//! The progress bar of a search, and the signal that ends one early.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use thalweg::measure::StopSignal;
use thalweg::tune::Progress;

use crate::output::Output;

/// A bar on a terminal, nothing elsewhere.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar over the time that a search may take.
    pub fn over(budget: Duration, output: &Output) -> Self {
        if !output.shows_progress() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(u64::try_from(budget.as_millis()).unwrap_or(u64::MAX));
        let style = ProgressStyle::with_template("{bar:24} {elapsed:>4} {wide_msg}");
        bar.set_style(style.expect("bug: the template is fixed"));
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

/// A signal that Ctrl-C and SIGTERM give. The first asks to end with what was measured; the second ends
/// the process at once, as without this.
pub fn stop_on_interrupt() -> anyhow::Result<StopSignal> {
    let signal = StopSignal::default();
    let requested = signal.clone();
    ctrlc::set_handler(move || {
        if requested.is_requested() {
            // 128 + SIGINT, as a shell reports it.
            std::process::exit(130);
        }
        requested.request();
    })?;
    Ok(signal)
}
