//! A sign of life of a long build, where stderr is no terminal and so has no bar.
//!
//! In: what the builder says. Out: a line every fifteen seconds with the time so far and the last that was said.
//! What a line is written to is left to the caller.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time between two lines: often enough for somebody who watches a log, and four in a minute of a build that takes
/// ten do not bury the rest.
pub const PERIOD: Duration = Duration::from_secs(15);

/// What a line is written to.
pub type Write = Box<dyn Fn(&str) + Send>;

/// Writes lines until it is dropped.
pub struct Pulse {
    said: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Starts to write lines about `work`, the first one after `period`. Where no thread can be started, none come.
    pub fn start(work: String, period: Duration, write: Write) -> Self {
        let (said, heard) = mpsc::channel();
        let builder = thread::Builder::new().name("thalweg-pulse".to_owned());
        let thread = builder.spawn(move || beat(&work, period, &write, &heard)).ok();
        Self { said: Some(said), thread }
    }

    /// Takes note of what the builder says.
    pub fn hear(&self, line: String) {
        if let Some(said) = &self.said {
            // There is nobody to hear it where no thread could be started.
            let _ = said.send(line);
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        // The thread ends once nobody can speak to it.
        self.said = None;
        if let Some(thread) = self.thread.take() {
            // A line that cannot be written is no failure of the build.
            let _ = thread.join();
        }
    }
}

fn beat(work: &str, period: Duration, write: &Write, heard: &Receiver<String>) {
    let start = Instant::now();
    let mut due = start + period;
    let mut last = None;
    loop {
        match heard.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(line) => last = Some(line),
            Err(RecvTimeoutError::Timeout) => {
                due += period;
                write(&text(work, start.elapsed(), last.as_deref()));
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn text(work: &str, elapsed: Duration, last: Option<&str>) -> String {
    let said = last.map_or_else(|| "nothing was said yet".to_owned(), |line| line.trim().to_owned());
    format!("{work} for {} s: {said}", elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn pulse(period: Duration) -> (Pulse, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let write = Box::new(move |line: &str| written.lock().unwrap().push(line.to_owned()));
        (Pulse::start("building m.onnx".to_owned(), period, write), lines)
    }

    #[test]
    fn lines_come_until_the_end_with_the_last_that_was_said() {
        let (pulse, lines) = pulse(Duration::from_millis(1));
        pulse.hear("first".to_owned());
        pulse.hear("second \n".to_owned());
        while !lines.lock().unwrap().contains(&"building m.onnx for 0 s: second".to_owned()) {
            thread::sleep(Duration::from_millis(1));
        }
        drop(pulse);
        let count = lines.lock().unwrap().len();
        thread::sleep(Duration::from_millis(5));
        assert_eq!(lines.lock().unwrap().len(), count, "a line came after the end");
    }

    #[test]
    fn a_short_build_writes_nothing_and_ends_at_once() {
        let (pulse, lines) = pulse(Duration::from_secs(3600));
        pulse.hear("first".to_owned());
        drop(pulse);
        assert!(lines.lock().unwrap().is_empty());
    }

    #[test]
    fn a_silent_builder_is_told_from_one_that_speaks() {
        assert_eq!(
            text("building", Duration::from_secs(45), None),
            "building for 45 s: nothing was said yet"
        );
    }
}
