//! The pool's logic: which request goes into which slot, and when a slot starts to run.
//!
//! A state machine without threads and without a clock: [`Scheduler::step`] takes the time and an
//! [`Event`] and says what to do as [`Action`]s. The pool drives it with real threads.
//! It knows slots by number only; their memory is the driver's.
//!
//! # Life of a slot
//! `Free` -> `Filling` (a producer writes its samples) -> `Open` (not full, waits for more samples until
//! its deadline) -> `Filling` ... -> `InFlight` (the device runs it) -> `Delivered` (consumers read the
//! outputs) -> `Free`. A consumer that is a producer too goes from `Delivered` to `Filling` at once, where nobody waits
//! for room. A slot of an executor that was lost ends as `Retired`.

#[cfg(test)]
pub(crate) mod faults;

use std::collections::VecDeque;

use super::PoolState;
use crate::units::Nanos;

/// A slot of this scheduler: executor number times depth, plus the slot's index in the executor.
pub type SlotNumber = usize;

/// A request for room in a slot, in the order of arrival.
pub type Ticket = u64;

/// What the scheduler must know about the pool.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerSpec {
    /// Executors that this scheduler feeds.
    pub executor_count: usize,
    /// Slots of each executor.
    pub depth: usize,
    /// Samples that fit into a slot.
    pub batch_size: usize,
    /// Whether several requests may share a slot: only if all tensors have a batch dimension.
    pub shares_slots: bool,
    /// How long a slot that is not full waits for more samples, from its first one on.
    pub batching_delay: Nanos,
    /// How many requests may wait for room before more are refused.
    pub queue_capacity: usize,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A producer wants room for some samples.
    Reserve {
        /// Its ticket; tickets rise.
        ticket: Ticket,
        /// Samples, at most the batch size.
        samples: usize,
    },
    /// A producer has filled what it was granted.
    Commit {
        /// The slot.
        slot: SlotNumber,
        /// Samples that were filled.
        samples: usize,
    },
    /// A producer gave up what it was granted.
    Abandon {
        /// The slot.
        slot: SlotNumber,
    },
    /// An execution has ended, well or not.
    Completed {
        /// The slot.
        slot: SlotNumber,
        /// Whether its executor can run no more.
        executor_is_lost: bool,
    },
    /// The last consumer of an execution's outputs is done.
    Release {
        /// The slot.
        slot: SlotNumber,
    },
    /// The last consumer of an execution's outputs keeps the slot and fills it again.
    Refill {
        /// The slot.
        slot: SlotNumber,
    },
    /// Nothing else has happened; time has passed.
    Tick,
    /// Nothing new is accepted; what was accepted is finished.
    Stop,
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand the slot to the producer, who fills samples from `offset` on.
    Grant {
        /// Whose turn it is.
        ticket: Ticket,
        /// The slot.
        slot: SlotNumber,
        /// Samples that are in the slot already.
        offset: usize,
    },
    /// Tell the producer that it gets no room.
    Refuse {
        /// Whose request.
        ticket: Ticket,
        /// Why.
        refusal: Refusal,
    },
    /// Start an execution.
    Enqueue {
        /// The slot.
        slot: SlotNumber,
        /// Samples in it.
        samples: usize,
    },
    /// Hand the outputs (or the failure) to the consumers.
    Deliver {
        /// The slot.
        slot: SlotNumber,
    },
    /// After [`Event::Stop`]: nothing is being filled or run any more.
    Finish,
}

/// Why a request gets no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many are waiting.
    QueueFull,
    /// The pool was stopped.
    Stopped,
    /// All executors were lost.
    NoExecutor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Free,
    /// `deadline` is `None` until the first samples are committed.
    Filling {
        filled: usize,
        deadline: Option<Nanos>,
    },
    Open {
        filled: usize,
        deadline: Nanos,
    },
    InFlight,
    Delivered,
    Retired,
}

#[derive(Clone, Copy, Debug, Default)]
struct ExecutorState {
    is_lost: bool,
    /// Slots that are being filled, wait for more samples or run.
    busy_slots: usize,
    /// Slots that run, and slots whose outputs somebody reads.
    running_slots: usize,
    delivered_slots: usize,
    /// Since when it has lacked input, while it does.
    starved_since: Option<Nanos>,
    /// When it was last given work, counted in grants: ties go to the one that waited longest.
    last_grant: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: Ticket,
    samples: usize,
}

/// Decides for one submitter's executors.
#[derive(Debug)]
pub struct Scheduler {
    spec: SchedulerSpec,
    slots: Vec<SlotState>,
    executors: Vec<ExecutorState>,
    waiting: VecDeque<Waiting>,
    grant_count: u64,
    /// How long executors lacked input, without those that do now.
    starved: Nanos,
    is_stopping: bool,
    is_finished: bool,
}

impl Scheduler {
    /// A scheduler whose slots are all free.
    pub fn new(spec: SchedulerSpec) -> Self {
        Self {
            spec,
            slots: vec![SlotState::Free; spec.executor_count * spec.depth],
            executors: vec![ExecutorState::default(); spec.executor_count],
            waiting: VecDeque::new(),
            grant_count: 0,
            starved: Nanos::ZERO,
            is_stopping: false,
            is_finished: false,
        }
    }

    /// Takes in one event and appends what is to be done, in this order, to `actions`.
    ///
    /// # Panics
    /// Where an event contradicts the slot's state, for example a completion of a slot that does not run.
    pub fn step(&mut self, now: Nanos, event: Event, actions: &mut Vec<Action>) {
        #[cfg(test)]
        if faults::swallows(event) {
            return;
        }
        match event {
            Event::Reserve { ticket, samples } => self.reserve(Waiting { ticket, samples }, actions),
            Event::Commit { slot, samples } => self.commit(now, slot, samples),
            Event::Abandon { slot } => self.abandon(slot),
            Event::Completed { slot, executor_is_lost } => self.complete(slot, executor_is_lost, actions),
            Event::Release { slot } => self.release(slot),
            Event::Refill { slot } => self.refill(slot),
            Event::Tick => {}
            Event::Stop => self.is_stopping = true,
        }
        self.refuse_the_hopeless(actions);
        self.serve_waiting(actions);
        self.enqueue_full(actions);
        if event == Event::Tick {
            self.enqueue_oldest_due(now, actions);
        }
        self.note_starving(now);
        self.finish_if_idle(actions);
    }

    /// How the executors are supplied at a time that is not before the last step.
    pub fn state(&self, now: Nanos) -> PoolState {
        let starving = self.executors.iter().filter_map(|executor| executor.starved_since);
        PoolState {
            at: now,
            executors: self.executors.iter().filter(|executor| !executor.is_lost).count(),
            starved_executors: starving.clone().count(),
            starved: self.starved + starving.map(|since| now - since).sum(),
            executor_time: self.executors.iter().map(|_| now).sum(),
            ..PoolState::default()
        }
    }

    fn note_starving(&mut self, now: Nanos) {
        for executor in &mut self.executors {
            let has_room = executor.delivered_slots < self.spec.depth;
            let is_starved = !executor.is_lost && executor.running_slots == 0 && has_room;
            match executor.starved_since {
                None if is_starved => executor.starved_since = Some(now),
                Some(since) if !is_starved => {
                    self.starved += now - since;
                    executor.starved_since = None;
                }
                _ => {}
            }
        }
    }

    /// When the next [`Event::Tick`] is due, as soon as nothing else happens: the earliest time at which a slot that is not full
    /// is to start.
    pub fn deadline(&self) -> Option<Nanos> {
        self.oldest_open().map(|(due, ..)| due)
    }

    /// Of the slots that are not full the one that starts next: when, which, and with how many samples. Where somebody waits
    /// whose samples do not fit, it would not get fuller.
    fn oldest_open(&self) -> Option<(Nanos, SlotNumber, usize)> {
        let open = self.slots.iter().enumerate().filter_map(|(slot, state)| match *state {
            SlotState::Open { filled, deadline } => Some((deadline, slot, filled)),
            _ => None,
        });
        let (deadline, slot, filled) = open.min()?;
        Some((if self.waiting.is_empty() { deadline } else { Nanos::ZERO }, slot, filled))
    }

    fn reserve(&mut self, request: Waiting, actions: &mut Vec<Action>) {
        debug_assert!(request.samples <= self.spec.batch_size, "the producer checks this");
        if self.waiting.len() < self.spec.queue_capacity {
            self.waiting.push_back(request);
        } else {
            actions.push(Action::Refuse { ticket: request.ticket, refusal: Refusal::QueueFull });
        }
    }

    fn commit(&mut self, now: Nanos, slot: SlotNumber, samples: usize) {
        let SlotState::Filling { filled, deadline } = self.slots[slot] else {
            panic!("bug: commit of slot {slot}, which is {:?}", self.slots[slot]);
        };
        let deadline = deadline.unwrap_or(now + self.spec.batching_delay);
        self.slots[slot] = SlotState::Open { filled: filled + samples, deadline };
    }

    fn abandon(&mut self, slot: SlotNumber) {
        match self.slots[slot] {
            SlotState::Filling { filled, deadline: Some(deadline) } => {
                self.slots[slot] = SlotState::Open { filled, deadline };
            }
            SlotState::Filling { deadline: None, .. } => {
                self.executors[slot / self.spec.depth].busy_slots -= 1;
                self.free(slot);
            }
            state => panic!("bug: slot {slot} was abandoned while {state:?}"),
        }
    }

    fn complete(&mut self, slot: SlotNumber, executor_is_lost: bool, actions: &mut Vec<Action>) {
        assert_eq!(self.slots[slot], SlotState::InFlight, "bug: completion of slot {slot}");
        self.slots[slot] = SlotState::Delivered;
        let executor = slot / self.spec.depth;
        self.executors[executor].busy_slots -= 1;
        self.executors[executor].running_slots -= 1;
        self.executors[executor].delivered_slots += 1;
        actions.push(Action::Deliver { slot });
        if executor_is_lost {
            self.lose(executor);
        }
    }

    fn release(&mut self, slot: SlotNumber) {
        self.take_back(slot);
        self.free(slot);
    }

    fn refill(&mut self, slot: SlotNumber) {
        self.take_back(slot);
        self.begin_filling(slot, 0, None);
    }

    fn take_back(&mut self, slot: SlotNumber) {
        assert_eq!(self.slots[slot], SlotState::Delivered, "bug: slot {slot} is with nobody who reads it");
        self.executors[slot / self.spec.depth].delivered_slots -= 1;
    }

    /// A lost executor's free slots are never used again. The others end as they would: the executor
    /// rejects what is enqueued, so their inputs reach the consumer with the failure.
    fn lose(&mut self, executor: usize) {
        self.executors[executor].is_lost = true;
        let slots = executor * self.spec.depth..(executor + 1) * self.spec.depth;
        for state in &mut self.slots[slots] {
            if *state == SlotState::Free {
                *state = SlotState::Retired;
            }
        }
    }

    fn free(&mut self, slot: SlotNumber) {
        let is_lost = self.executors[slot / self.spec.depth].is_lost;
        self.slots[slot] = if is_lost { SlotState::Retired } else { SlotState::Free };
    }

    fn refuse_the_hopeless(&mut self, actions: &mut Vec<Action>) {
        let refusal = if self.is_stopping {
            Refusal::Stopped
        } else if self.executors.iter().all(|executor| executor.is_lost) {
            Refusal::NoExecutor
        } else {
            return;
        };
        let refused = self.waiting.drain(..);
        actions.extend(refused.map(|request| Action::Refuse { ticket: request.ticket, refusal }));
    }

    /// First come, first served: nobody overtakes a larger request that still waits for room.
    fn serve_waiting(&mut self, actions: &mut Vec<Action>) {
        while let Some(&request) = self.waiting.front() {
            let Some(slot) = self.room_for(request.samples) else { break };
            self.waiting.pop_front();
            self.grant(request, slot, actions);
        }
    }

    /// A slot that already has samples comes first, the earliest deadline first; then a free slot of the
    /// executor with the least to do.
    fn room_for(&self, samples: usize) -> Option<SlotNumber> {
        let open = self.slots.iter().enumerate().filter_map(|(slot, state)| match *state {
            SlotState::Open { filled, deadline } if self.has_room(filled, samples) => Some((deadline, slot)),
            _ => None,
        });
        if let Some((_, slot)) = open.min() {
            return Some(slot);
        }
        let free = self.slots.iter().enumerate().filter(|(_, state)| **state == SlotState::Free);
        free.map(|(slot, _)| slot).min_by_key(|slot| {
            let executor = self.executors[slot / self.spec.depth];
            (executor.busy_slots, executor.last_grant)
        })
    }

    fn has_room(&self, filled: usize, samples: usize) -> bool {
        self.spec.shares_slots && filled + samples <= self.spec.batch_size
    }

    fn grant(&mut self, request: Waiting, slot: SlotNumber, actions: &mut Vec<Action>) {
        let (offset, deadline) = match self.slots[slot] {
            SlotState::Open { filled, deadline } => (filled, Some(deadline)),
            _ => (0, None),
        };
        #[cfg(test)]
        let offset = faults::offset(offset);
        self.begin_filling(slot, offset, deadline);
        actions.push(Action::Grant { ticket: request.ticket, slot, offset });
    }

    /// From `filled` samples on; `deadline` is `None` where there are none yet.
    fn begin_filling(&mut self, slot: SlotNumber, filled: usize, deadline: Option<Nanos>) {
        let executor = &mut self.executors[slot / self.spec.depth];
        executor.busy_slots += usize::from(deadline.is_none());
        self.grant_count += 1;
        executor.last_grant = self.grant_count;
        self.slots[slot] = SlotState::Filling { filled, deadline };
    }

    /// A slot starts when it is full, or the pool stops.
    fn enqueue_full(&mut self, actions: &mut Vec<Action>) {
        for slot in 0..self.slots.len() {
            if let SlotState::Open { filled, .. } = self.slots[slot]
                && (self.is_stopping || !self.has_room(filled, 1))
            {
                self.enqueue(slot, filled, actions);
            }
        }
    }

    /// A slot that is not full starts when its time is up and nothing else is to be done, one after the other: what comes while
    /// one is being started may be for the next. Where starting takes long that is all that fills slots.
    fn enqueue_oldest_due(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        if let Some((due, slot, filled)) = self.oldest_open()
            && due <= now
        {
            self.enqueue(slot, filled, actions);
        }
    }

    fn enqueue(&mut self, slot: SlotNumber, samples: usize, actions: &mut Vec<Action>) {
        self.slots[slot] = SlotState::InFlight;
        self.executors[slot / self.spec.depth].running_slots += 1;
        actions.push(Action::Enqueue { slot, samples });
    }

    fn finish_if_idle(&mut self, actions: &mut Vec<Action>) {
        let is_idle = self.executors.iter().all(|executor| executor.busy_slots == 0);
        if self.is_stopping && is_idle && !self.is_finished {
            self.is_finished = true;
            actions.push(Action::Finish);
        }
    }
}
