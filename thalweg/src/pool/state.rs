//! What a pool does at one moment, and what it has lacked since it was started.

use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde::{Deserialize, Serialize};

use super::producer::Entrance;
use super::submitter::Message;
use crate::units::Nanos;

/// How often who waits for an answer looks whether the submitter is still there.
const LIFE_CHECK: Duration = Duration::from_millis(100);

/// How a pool is supplied. An executor is starved while nothing of it runs though it has a slot that is free or still
/// being filled: what is missing is input. One whose slots are all with consumers of responses is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolState {
    /// When that was.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// Executors that were not lost.
    pub executors: usize,
    /// Those of them that are starved.
    pub starved_executors: usize,
    /// Time in which executors were starved since the pool was started, summed over them.
    #[serde(rename = "starved_ns")]
    pub starved: Nanos,
    /// Time on the pool's clock, summed over all executors, lost ones too: what `starved` is a part of. Submitters answer
    /// one after the other.
    #[serde(rename = "executor_time_ns")]
    pub executor_time: Nanos,
    /// Time in calls that start executions, up to when each submitting thread last looked whether somebody else works on its
    /// core, the other hyperthread of it included: each time that they have taken another 2 to 128 ms. 0 where it cannot
    /// tell: on other processors than most of x86-64, without optimisation, and in virtual time.
    #[serde(rename = "calls_ns", default)]
    pub calls: Nanos,
    /// The part of it before looks that found somebody.
    #[serde(rename = "shared_core_calls_ns", default)]
    pub shared_core_calls: Nanos,
}

impl PoolState {
    /// Whether all executors lack input: the device has nothing to do.
    pub fn is_input_starved(&self) -> bool {
        self.executors > 0 && self.starved_executors == self.executors
    }

    /// The part of the executors' time from `earlier` on in which they were starved, 0 to 1; `None` where no time has
    /// passed, or no submitter is left to ask.
    pub fn starved_share_since(&self, earlier: &Self) -> Option<f64> {
        let time = (self.executor_time - earlier.executor_time).as_seconds();
        (time > 0.0).then(|| (self.starved - earlier.starved).as_seconds() / time)
    }

    /// The part of the time in calls that start executions, from `earlier` on, in which somebody else worked on the core of
    /// the submitting thread, 0 to 1; `None` where they took too little time to look, or nobody can
    /// tell.
    pub fn shared_core_share_since(&self, earlier: &Self) -> Option<f64> {
        let time = (self.calls - earlier.calls).as_seconds();
        (time > 0.0).then(|| (self.shared_core_calls - earlier.shared_core_calls).as_seconds() / time)
    }

    /// That of several submitters' executors at one time.
    pub(super) fn sum(states: impl Iterator<Item = Self>) -> Self {
        states.fold(Self::default(), |sum, state| Self {
            at: sum.at.max(state.at),
            executors: sum.executors + state.executors,
            starved_executors: sum.starved_executors + state.starved_executors,
            starved: sum.starved + state.starved,
            executor_time: sum.executor_time + state.executor_time,
            calls: sum.calls + state.calls,
            shared_core_calls: sum.shared_core_calls + state.shared_core_calls,
        })
    }
}

impl Entrance {
    /// Asks every submitter; one that has ended has no executors.
    pub(super) fn state(&self) -> PoolState {
        // Threads that watch one pool contend here. An inbox has room for what is sent once, not for many who ask.
        let _one_at_a_time = self.watching.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let answers = self.submitters.iter().filter_map(|submitter| {
            let (reply, answer) = bounded(1);
            submitter.sender.send(Message::State { reply }).ok()?;
            loop {
                match answer.recv_timeout(LIFE_CHECK) {
                    Ok(state) => return Some(state),
                    Err(RecvTimeoutError::Timeout) if submitter.life.strong_count() > 0 => {}
                    Err(_) => return answer.try_recv().ok(),
                }
            }
        });
        PoolState::sum(answers)
    }
}
