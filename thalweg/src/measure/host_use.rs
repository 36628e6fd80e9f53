//! What the process takes of the host.

use nix::sys::resource::{UsageWho, getrusage};
use rustix::time::{ClockId, clock_gettime};

use crate::units::Nanos;

/// Since the process started, all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HostUse {
    /// CPU time, user and system.
    pub cpu: Nanos,
    /// How often a thread left its core, because it waited or because another one had its turn; `None` where nobody
    /// counts.
    pub context_switches: Option<u64>,
}

impl HostUse {
    /// Up to now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let switches = usage.map(|it| it.voluntary_context_switches() + it.involuntary_context_switches());
        Self {
            cpu: Nanos(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)),
            context_switches: switches.and_then(|count| u64::try_from(count).ok()),
        }
    }

    /// From `earlier` to this.
    pub fn since(self, earlier: Self) -> Self {
        let switches = self.context_switches.zip(earlier.context_switches);
        Self {
            cpu: self.cpu - earlier.cpu,
            context_switches: switches.map(|(now, then)| now.saturating_sub(then)),
        }
    }

    /// The context switches for each of so many executions.
    pub fn context_switches_per(self, executions: f64) -> Option<f64> {
        self.context_switches.filter(|_| executions > 0.0).map(|count| count as f64 / executions)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_sleeps_has_left_its_core_and_one_that_counts_has_used_it() {
        let start = HostUse::now();
        (0..20).for_each(|_| std::thread::sleep(Duration::from_micros(100)));
        assert!((0..3_000_000u64).map(std::hint::black_box).sum::<u64>() > 0);
        let used = HostUse::now().since(start);
        assert!(used.context_switches.is_some_and(|count| count >= 20), "{used:?}");
        assert!(used.cpu > Nanos(100_000), "{used:?}");
        assert!(used.context_switches_per(10.0).is_some_and(|each| each >= 2.0));
    }
}
