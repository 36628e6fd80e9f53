//! How busy the threads of other processes are, which is what NVML cannot tell of whoever submits to a GPU.
//!
//! In: processes. Out: the share of a core that the busiest of their threads had, from Linux's `schedstat` files. Whether
//! it submits, waits by asking again and again, or prepares inputs is not seen here; [`observe`](super::observe) tells that.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Reads the same processes again and again.
#[derive(Debug, Default)]
pub(super) struct Threads {
    /// Time on a core so far, by process and thread.
    before: HashMap<(u32, String), Duration>,
}

impl Threads {
    /// The busiest thread's share of the time since the last call. `None` where no thread was seen twice: at first, and
    /// where `/proc` does not know the processes, as inside of a container.
    pub fn busiest(&mut self, processes: impl IntoIterator<Item = u32>, elapsed: Duration) -> Option<f64> {
        let now: HashMap<_, _> = processes.into_iter().flat_map(times).collect();
        let used =
            now.iter().filter_map(|(thread, time)| Some(time.saturating_sub(*self.before.get(thread)?)));
        let most = used.max();
        self.before = now;
        Some((most?.as_secs_f64() / elapsed.as_secs_f64()).clamp(0.0, 1.0)).filter(|share| share.is_finite())
    }
}

/// Time on a core so far of each thread.
fn times(process: u32) -> Vec<((u32, String), Duration)> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let time = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let on_core = text.split(' ').next()?.parse().ok()?;
        Some(((process, thread.file_name().into_string().ok()?), Duration::from_nanos(on_core)))
    };
    threads.filter_map(time).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_computes_is_busy_and_a_process_that_is_not_there_has_none() {
        if !Path::new("/proc/self/schedstat").exists() {
            return; // a kernel without it, where the gauge has no value
        }
        let mut threads = Threads::default();
        let own = std::process::id();
        assert_eq!(threads.busiest([own], Duration::from_secs(1)), None, "nothing was seen before");
        let start = Instant::now();
        let computing = thread::spawn(move || while start.elapsed() < Duration::from_millis(200) {});
        thread::sleep(Duration::from_millis(20));
        threads.busiest([own], start.elapsed());
        let middle = Instant::now();
        thread::sleep(Duration::from_millis(150));
        let share = threads.busiest([own], middle.elapsed()).unwrap();
        computing.join().unwrap();
        // Other processes want the cores too.
        assert!(share > 0.05 && share <= 1.0, "{share}");
        assert_eq!(threads.busiest([u32::MAX], Duration::from_secs(1)), None);
    }
}
