//! Which executors of a submitter run something, and which of them is likely to finish next.

use crate::units::Nanos;

/// Executions that were started and have not ended.
pub(super) struct Running {
    executors: Vec<Line>,
    total: usize,
    /// Those with as many samples as a slot has room for.
    total_whole: usize,
}

/// Executions of one executor, of which it runs the oldest.
#[derive(Clone, Copy, Default)]
struct Line {
    length: usize,
    /// When the oldest has begun: when it was started or, where another one ran, when that ended.
    begun: Nanos,
}

impl Running {
    pub(super) fn of(executors: usize) -> Self {
        Self { executors: vec![Line::default(); executors], total: 0, total_whole: 0 }
    }

    pub(super) fn start(&mut self, executor: usize, is_whole: bool, now: Nanos) {
        let line = &mut self.executors[executor];
        if line.length == 0 {
            line.begun = now;
        }
        line.length += 1;
        self.total += 1;
        self.total_whole += usize::from(is_whole);
    }

    /// The oldest of an executor has ended, at that time.
    pub(super) fn end(&mut self, executor: usize, is_whole: bool, at: Nanos) {
        let line = &mut self.executors[executor];
        line.length = line.length.checked_sub(1).expect("bug: the end of what was not started");
        line.begun = at;
        self.total -= 1;
        self.total_whole -= usize::from(is_whole);
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn total_whole(&self) -> usize {
        self.total_whole
    }

    /// The executor that is likely to finish next: the one whose oldest has run for longest, which is right where all take
    /// the same time.
    pub(super) fn next(&self) -> Option<usize> {
        let at_work = self.executors.iter().enumerate().filter(|(_, line)| line.length > 0);
        at_work.min_by_key(|(_, line)| line.begun).map(|(executor, _)| executor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_to_finish_is_the_one_whose_oldest_has_run_for_longest() {
        let mut running = Running::of(2);
        assert_eq!((running.total(), running.next()), (0, None));
        for (executor, now) in [(0, 0), (0, 1), (1, 2), (1, 3)] {
            running.start(executor, true, Nanos(now));
        }
        assert_eq!((running.total(), running.next()), (4, Some(0)));
        running.end(0, true, Nanos(10));
        assert_eq!(
            running.next(),
            Some(1),
            "the second one of 0 has just begun, though it was started before"
        );
        // It is seen late, and its second one has run since then.
        running.end(1, true, Nanos(9));
        running.start(1, true, Nanos(30));
        assert_eq!(running.next(), Some(1));
        for (executor, at) in [(1, 18), (0, 19), (1, 27)] {
            running.end(executor, true, Nanos(at));
        }
        assert_eq!((running.total(), running.next()), (0, None));
    }
}
