//! Whether a submitter that waits for its executors asks once more, or sleeps.

use crate::backend::Wait;
use crate::units::Nanos;

/// How long [`Wait::Hybrid`] asks before it sleeps. To be woken by a CUDA event costs an interrupt and two switches of
/// threads, 20 to 50 us. Asking for twice the dearest of these never costs more than three times what the better of
/// the two would have (the argument of competitive spinning; Karlin et al., SOSP 1991), and most executions that are
/// about to end do so within it.
const SPIN_TIME: Nanos = Nanos(100_000);

/// How a submitter waits, and since when nothing has happened.
pub(super) struct Patience {
    wait: Wait,
    quiet_since: Option<Nanos>,
}

impl Patience {
    pub(super) fn new(wait: Wait) -> Self {
        Self { wait, quiet_since: None }
    }

    /// Whether somebody has to wake the submitter while executions run.
    pub(super) fn may_sleep(&self) -> bool {
        self.wait != Wait::Spin
    }

    /// Whether to ask once more rather than to sleep, where executions run.
    pub(super) fn asks_again(&mut self, now: Nanos) -> bool {
        match self.wait {
            Wait::Block => false,
            Wait::Spin => true,
            Wait::Hybrid => now - *self.quiet_since.get_or_insert(now) < SPIN_TIME,
        }
    }

    /// Something has happened.
    pub(super) fn stir(&mut self) {
        self.quiet_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_sleeps_once_nothing_has_happened_for_its_time() {
        let mut patience = Patience::new(Wait::Hybrid);
        let end = Nanos(5) + SPIN_TIME;
        assert!(patience.asks_again(Nanos(5)) && patience.asks_again(end - Nanos(1)));
        assert!(!patience.asks_again(end));
        patience.stir();
        assert!(patience.asks_again(end));
    }

    #[test]
    fn the_others_never_change_their_mind() {
        let ages = [Nanos(0), SPIN_TIME, Nanos(u64::MAX)];
        let asks = |wait| ages.map(|age| Patience::new(wait).asks_again(age));
        assert_eq!(asks(Wait::Block), [false; 3]);
        assert_eq!(asks(Wait::Spin), [true; 3]);
        assert!(!Patience::new(Wait::Spin).may_sleep() && Patience::new(Wait::Hybrid).may_sleep());
    }
}
