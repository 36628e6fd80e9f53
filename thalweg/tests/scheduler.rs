//! The pool's scheduler, step by step and at random, without threads and without a clock.

use std::collections::{BTreeMap, BTreeSet};

use thalweg::pool::scheduler::{Action, Event, Refusal, Scheduler, SchedulerSpec};
use thalweg::units::Nanos;

fn spec() -> SchedulerSpec {
    SchedulerSpec {
        executor_count: 1,
        depth: 2,
        batch_size: 4,
        shares_slots: true,
        batching_delay: Nanos::ZERO,
        queue_capacity: 16,
    }
}

fn step(scheduler: &mut Scheduler, now: u64, event: Event) -> Vec<Action> {
    let mut actions = Vec::new();
    scheduler.step(Nanos(now), event, &mut actions);
    actions
}

fn reserve(ticket: u64, samples: usize) -> Event {
    Event::Reserve { ticket, samples }
}

fn commit(slot: usize, samples: usize) -> Event {
    Event::Commit { slot, samples }
}

fn completed(slot: usize) -> Event {
    Event::Completed { slot, executor_is_lost: false }
}

fn lost(slot: usize) -> Event {
    Event::Completed { slot, executor_is_lost: true }
}

fn grant(ticket: u64, slot: usize, offset: usize) -> Action {
    Action::Grant { ticket, slot, offset }
}

fn enqueue(slot: usize, samples: usize) -> Action {
    Action::Enqueue { slot, samples }
}

#[test]
fn without_a_delay_an_execution_starts_as_soon_as_nothing_else_happens() {
    let mut scheduler = Scheduler::new(spec());
    assert_eq!(step(&mut scheduler, 0, reserve(0, 1)), [grant(0, 0, 0)]);
    assert_eq!(step(&mut scheduler, 1, commit(0, 1)), []);
    assert_eq!(scheduler.deadline(), Some(Nanos(1)));
    assert_eq!(step(&mut scheduler, 1, Event::Tick), [enqueue(0, 1)]);
    assert_eq!(step(&mut scheduler, 2, completed(0)), [Action::Deliver { slot: 0 }]);
}

#[test]
fn slots_that_are_not_full_start_one_after_the_other_and_fill_up_meanwhile() {
    let mut scheduler = Scheduler::new(spec());
    step(&mut scheduler, 0, reserve(0, 1));
    step(&mut scheduler, 0, reserve(1, 1));
    assert_eq!(step(&mut scheduler, 1, commit(0, 1)), []);
    assert_eq!(step(&mut scheduler, 2, commit(1, 1)), []);
    assert_eq!(step(&mut scheduler, 3, Event::Tick), [enqueue(0, 1)]);
    // What came while that was being started is taken in before the other one is.
    assert_eq!(step(&mut scheduler, 9, reserve(2, 2)), [grant(2, 1, 1)]);
    assert_eq!(step(&mut scheduler, 9, Event::Tick), [], "it is being filled");
    assert_eq!(step(&mut scheduler, 10, commit(1, 2)), []);
    assert_eq!(step(&mut scheduler, 10, Event::Tick), [enqueue(1, 3)]);
}

#[test]
fn with_a_delay_later_requests_join_the_open_slot() {
    let mut scheduler = Scheduler::new(SchedulerSpec { batching_delay: Nanos(100), ..spec() });
    step(&mut scheduler, 0, reserve(0, 1));
    assert_eq!(step(&mut scheduler, 10, commit(0, 1)), []);
    assert_eq!(scheduler.deadline(), Some(Nanos(110)));
    assert_eq!(step(&mut scheduler, 20, reserve(1, 2)), [grant(1, 0, 1)]);
    assert_eq!(scheduler.deadline(), None, "a slot that is being filled has no time to keep");
    assert_eq!(step(&mut scheduler, 30, commit(0, 2)), []);
    assert_eq!(scheduler.deadline(), Some(Nanos(110)), "the first sample's deadline stays");
    assert_eq!(step(&mut scheduler, 110, Event::Tick), [enqueue(0, 3)]);
}

/// Starved executors, and the time in which any was.
fn starving(scheduler: &Scheduler, now: u64) -> (usize, u64) {
    let state = scheduler.state(Nanos(now));
    (state.starved_executors, state.starved.0)
}

#[test]
fn an_executor_lacks_input_while_nothing_of_it_runs_and_a_slot_is_free_or_being_filled() {
    let mut scheduler = Scheduler::new(spec());
    step(&mut scheduler, 100, Event::Tick);
    assert_eq!(starving(&scheduler, 110), (1, 10));
    step(&mut scheduler, 120, reserve(0, 4));
    assert_eq!(starving(&scheduler, 150), (1, 50), "what is being filled cannot run");
    step(&mut scheduler, 150, commit(0, 4));
    assert_eq!(starving(&scheduler, 1_000), (0, 50));
    step(&mut scheduler, 1_000, completed(0));
    assert_eq!(starving(&scheduler, 1_001), (1, 51));
    assert!(scheduler.state(Nanos(1_001)).is_input_starved());
}

#[test]
fn an_executor_whose_slots_are_all_with_consumers_does_not_lack_input() {
    let mut scheduler = Scheduler::new(SchedulerSpec { depth: 1, ..spec() });
    step(&mut scheduler, 0, reserve(0, 4));
    step(&mut scheduler, 10, commit(0, 4));
    step(&mut scheduler, 20, completed(0));
    assert_eq!(starving(&scheduler, 30), (0, 10));
    step(&mut scheduler, 40, Event::Release { slot: 0 });
    assert_eq!(starving(&scheduler, 45), (1, 15));
}

#[test]
fn each_executor_counts_for_itself_and_a_lost_one_no_more() {
    let mut scheduler = Scheduler::new(SchedulerSpec { executor_count: 2, ..spec() });
    step(&mut scheduler, 0, reserve(0, 4));
    step(&mut scheduler, 10, commit(0, 4));
    assert_eq!(starving(&scheduler, 20), (1, 30));
    let before = scheduler.state(Nanos(20));
    let after = scheduler.state(Nanos(40));
    assert_eq!(after.starved_share_since(&before), Some(0.5));
    step(&mut scheduler, 40, lost(0));
    assert_eq!(starving(&scheduler, 50), (1, 60));
    assert_eq!(scheduler.state(Nanos(50)).executors, 1);
}

#[test]
fn a_full_slot_does_not_wait_for_its_deadline() {
    let mut scheduler = Scheduler::new(SchedulerSpec { batching_delay: Nanos(100), ..spec() });
    step(&mut scheduler, 0, reserve(0, 4));
    assert_eq!(step(&mut scheduler, 1, commit(0, 4)), [enqueue(0, 4)]);
}

#[test]
fn requests_that_wait_fill_up_a_slot_even_without_a_delay() {
    let mut scheduler = Scheduler::new(SchedulerSpec { depth: 1, ..spec() });
    step(&mut scheduler, 0, reserve(0, 1));
    assert_eq!(step(&mut scheduler, 1, reserve(1, 1)), [], "the only slot is being filled");
    assert_eq!(step(&mut scheduler, 2, commit(0, 1)), [grant(1, 0, 1)]);
    assert_eq!(step(&mut scheduler, 3, commit(0, 1)), []);
    assert_eq!(step(&mut scheduler, 3, Event::Tick), [enqueue(0, 2)]);
}

#[test]
fn nobody_overtakes_a_large_request_and_what_it_waits_for_starts_at_once() {
    let mut scheduler = Scheduler::new(SchedulerSpec { depth: 1, batching_delay: Nanos(1000), ..spec() });
    step(&mut scheduler, 0, reserve(0, 3));
    step(&mut scheduler, 1, commit(0, 3));
    assert_eq!(step(&mut scheduler, 2, reserve(1, 2)), []);
    assert!(scheduler.deadline().is_some_and(|deadline| deadline <= Nanos(2)));
    assert_eq!(step(&mut scheduler, 2, Event::Tick), [enqueue(0, 3)]);
    assert_eq!(step(&mut scheduler, 3, reserve(2, 1)), [], "ticket 2 would fit but came later");
    step(&mut scheduler, 4, completed(0));
    assert_eq!(step(&mut scheduler, 5, Event::Release { slot: 0 }), [grant(1, 0, 0)]);
}

#[test]
fn a_network_without_a_batch_dimension_never_shares_a_slot() {
    let unbatched =
        SchedulerSpec { batch_size: 1, shares_slots: false, batching_delay: Nanos(1000), ..spec() };
    let mut scheduler = Scheduler::new(unbatched);
    step(&mut scheduler, 0, reserve(0, 1));
    assert_eq!(step(&mut scheduler, 1, commit(0, 1)), [enqueue(0, 1)]);
}

#[test]
fn free_slots_go_to_the_executor_with_the_least_to_do() {
    let mut scheduler = Scheduler::new(SchedulerSpec { executor_count: 2, ..spec() });
    assert_eq!(step(&mut scheduler, 0, reserve(0, 4)), [grant(0, 0, 0)]);
    assert_eq!(step(&mut scheduler, 0, reserve(1, 4)), [grant(1, 2, 0)], "slot 2 is the other executor's");
    assert_eq!(step(&mut scheduler, 0, reserve(2, 4)), [grant(2, 1, 0)]);
    assert_eq!(step(&mut scheduler, 0, reserve(3, 4)), [grant(3, 3, 0)]);
    assert_eq!(step(&mut scheduler, 0, reserve(4, 4)), [], "back-pressure: all four are out");
}

#[test]
fn the_queue_is_bounded() {
    let mut scheduler = Scheduler::new(SchedulerSpec { depth: 1, queue_capacity: 1, ..spec() });
    step(&mut scheduler, 0, reserve(0, 4));
    assert_eq!(step(&mut scheduler, 0, reserve(1, 4)), []);
    let refused = Action::Refuse { ticket: 2, refusal: Refusal::QueueFull };
    assert_eq!(step(&mut scheduler, 0, reserve(2, 4)), [refused]);
}

#[test]
fn an_abandoned_slot_is_free_again_and_keeps_what_others_put_into_it() {
    let mut scheduler = Scheduler::new(SchedulerSpec { depth: 1, batching_delay: Nanos(50), ..spec() });
    step(&mut scheduler, 0, reserve(0, 1));
    step(&mut scheduler, 1, Event::Abandon { slot: 0 });
    assert_eq!(step(&mut scheduler, 2, reserve(1, 1)), [grant(1, 0, 0)]);
    step(&mut scheduler, 3, commit(0, 1));
    step(&mut scheduler, 4, reserve(2, 1));
    step(&mut scheduler, 5, Event::Abandon { slot: 0 });
    assert_eq!(step(&mut scheduler, 53, Event::Tick), [enqueue(0, 1)]);
}

#[test]
fn a_lost_executor_gets_no_more_work_and_the_others_go_on() {
    let mut scheduler = Scheduler::new(SchedulerSpec { executor_count: 2, depth: 1, ..spec() });
    step(&mut scheduler, 0, reserve(0, 4));
    step(&mut scheduler, 0, commit(0, 4));
    let actions = step(&mut scheduler, 1, lost(0));
    assert_eq!(actions, [Action::Deliver { slot: 0 }], "the failure reaches its consumer");
    step(&mut scheduler, 2, Event::Release { slot: 0 });
    assert_eq!(step(&mut scheduler, 3, reserve(1, 4)), [grant(1, 1, 0)]);
    assert_eq!(step(&mut scheduler, 4, reserve(2, 4)), []);
    step(&mut scheduler, 5, commit(1, 4));
    let refused = Action::Refuse { ticket: 2, refusal: Refusal::NoExecutor };
    let actions = step(&mut scheduler, 6, lost(1));
    assert_eq!(actions, [Action::Deliver { slot: 1 }, refused], "nobody waits for ever");
}

#[test]
fn stopping_flushes_open_slots_and_waits_for_those_being_filled() {
    let mut scheduler = Scheduler::new(SchedulerSpec { batching_delay: Nanos(1000), ..spec() });
    step(&mut scheduler, 0, reserve(0, 4));
    step(&mut scheduler, 0, reserve(1, 1));
    step(&mut scheduler, 0, commit(1, 1));
    assert_eq!(step(&mut scheduler, 1, Event::Stop), [enqueue(1, 1)]);
    let refused = Action::Refuse { ticket: 2, refusal: Refusal::Stopped };
    assert_eq!(step(&mut scheduler, 2, reserve(2, 1)), [refused]);
    step(&mut scheduler, 3, completed(1));
    assert_eq!(step(&mut scheduler, 4, commit(0, 4)), [enqueue(0, 4)]);
    assert_eq!(step(&mut scheduler, 5, completed(0)), [Action::Deliver { slot: 0 }, Action::Finish]);
}

#[test]
fn a_reader_that_fills_the_slot_again_keeps_it_and_it_counts_as_being_filled() {
    let mut scheduler = Scheduler::new(SchedulerSpec { depth: 1, ..spec() });
    step(&mut scheduler, 0, reserve(0, 4));
    step(&mut scheduler, 0, commit(0, 4));
    step(&mut scheduler, 10, completed(0));
    assert_eq!(starving(&scheduler, 20), (0, 0), "its reader has the only slot");
    assert_eq!(step(&mut scheduler, 20, Event::Refill { slot: 0 }), []);
    assert_eq!(starving(&scheduler, 30), (1, 10), "what is being filled cannot run");
    assert_eq!(step(&mut scheduler, 30, reserve(1, 4)), [], "nobody else gets it");
    assert_eq!(step(&mut scheduler, 40, commit(0, 4)), [enqueue(0, 4)]);
    step(&mut scheduler, 50, completed(0));
    step(&mut scheduler, 50, Event::Refill { slot: 0 });
    assert_eq!(
        step(&mut scheduler, 60, Event::Abandon { slot: 0 }),
        [grant(1, 0, 0)],
        "until it gives it up"
    );
}

#[test]
fn stopping_waits_for_a_slot_that_its_reader_fills_again() {
    let mut scheduler = Scheduler::new(spec());
    step(&mut scheduler, 0, reserve(0, 4));
    step(&mut scheduler, 0, reserve(1, 4));
    step(&mut scheduler, 0, commit(0, 4));
    step(&mut scheduler, 1, completed(0));
    step(&mut scheduler, 1, Event::Refill { slot: 0 });
    assert_eq!(step(&mut scheduler, 2, Event::Stop), []);
    assert_eq!(step(&mut scheduler, 3, Event::Abandon { slot: 1 }), []);
    assert_eq!(step(&mut scheduler, 4, commit(0, 4)), [enqueue(0, 4)]);
    assert_eq!(step(&mut scheduler, 5, completed(0)), [Action::Deliver { slot: 0 }, Action::Finish]);
}

/// The tickets in each slot, by what happens to the slot.
type Places = BTreeMap<usize, Vec<u64>>;

/// A world around the scheduler that checks every action against what it knows itself.
struct World {
    spec: SchedulerSpec,
    scheduler: Scheduler,
    now: u64,
    next_ticket: u64,
    waiting: BTreeMap<u64, usize>,
    filling: BTreeMap<usize, (u64, usize)>,
    committed: Places,
    in_flight: Places,
    delivered: Places,
    answered: BTreeSet<u64>,
    is_finished: bool,
}

impl World {
    fn new(spec: SchedulerSpec) -> Self {
        Self {
            spec,
            scheduler: Scheduler::new(spec),
            now: 0,
            next_ticket: 0,
            waiting: BTreeMap::new(),
            filling: BTreeMap::new(),
            committed: Places::new(),
            in_flight: Places::new(),
            delivered: Places::new(),
            answered: BTreeSet::new(),
            is_finished: false,
        }
    }

    fn feed(&mut self, event: Event) {
        for action in step(&mut self.scheduler, self.now, event) {
            self.obey(action);
        }
    }

    fn answer(&mut self, ticket: u64) {
        assert!(self.answered.insert(ticket), "ticket {ticket} was answered twice");
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::Grant { ticket, slot, offset } => {
                let samples = self.waiting.remove(&ticket).expect("a grant is for somebody who waits");
                assert!(!self.in_flight.contains_key(&slot), "slot {slot} runs");
                assert!(!self.delivered.contains_key(&slot), "slot {slot} is being read");
                assert_eq!(offset > 0, self.committed.contains_key(&slot));
                assert!(offset + samples <= self.spec.batch_size);
                assert!(self.filling.insert(slot, (ticket, samples)).is_none(), "two producers");
            }
            Action::Refuse { ticket, .. } => {
                assert!(self.waiting.remove(&ticket).is_some());
                self.answer(ticket);
            }
            Action::Enqueue { slot, .. } => {
                assert!(!self.filling.contains_key(&slot), "slot {slot} is still being filled");
                let tickets = self.committed.remove(&slot).expect("an execution has samples");
                assert!(self.in_flight.insert(slot, tickets).is_none());
            }
            Action::Deliver { slot } => {
                let tickets = self.in_flight.remove(&slot).expect("only what ran is delivered");
                assert!(self.delivered.insert(slot, tickets).is_none());
            }
            Action::Finish => {
                assert!(self.filling.is_empty() && self.committed.is_empty() && self.in_flight.is_empty());
                self.is_finished = true;
            }
        }
    }

    fn reserve(&mut self, samples: usize) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.insert(ticket, samples);
        self.feed(reserve(ticket, samples));
    }

    fn commit(&mut self, slot: usize) {
        let (ticket, samples) = self.filling.remove(&slot).expect("the caller picked it");
        self.committed.entry(slot).or_default().push(ticket);
        self.feed(commit(slot, samples));
    }

    fn abandon(&mut self, slot: usize) {
        let (ticket, _) = self.filling.remove(&slot).expect("the caller picked it");
        self.answer(ticket);
        self.feed(Event::Abandon { slot });
    }

    fn release(&mut self, slot: usize) {
        for ticket in self.delivered.remove(&slot).expect("the caller picked it") {
            self.answer(ticket);
        }
        self.feed(Event::Release { slot });
    }

    fn refill(&mut self, slot: usize, samples: usize) {
        for ticket in self.delivered.remove(&slot).expect("the caller picked it") {
            self.answer(ticket);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.filling.insert(slot, (ticket, samples));
        self.feed(Event::Refill { slot });
    }

    /// One random thing that may happen now.
    fn stir(&mut self, random: &mut impl FnMut(usize) -> usize) {
        self.now += random(40) as u64;
        let filling: Vec<_> = self.filling.keys().copied().collect();
        let in_flight: Vec<_> = self.in_flight.keys().copied().collect();
        let delivered: Vec<_> = self.delivered.keys().copied().collect();
        match random(20) {
            0..7 => self.reserve(1 + random(self.spec.batch_size)),
            7..11 if !filling.is_empty() => self.commit(filling[random(filling.len())]),
            11 if !filling.is_empty() => self.abandon(filling[random(filling.len())]),
            12..15 if !in_flight.is_empty() => {
                let executor_is_lost = random(200) == 0;
                self.feed(Event::Completed { slot: in_flight[random(in_flight.len())], executor_is_lost });
            }
            15..18 if !delivered.is_empty() => self.release(delivered[random(delivered.len())]),
            18 if !delivered.is_empty() => {
                self.refill(delivered[random(delivered.len())], 1 + random(self.spec.batch_size));
            }
            _ => self.feed(Event::Tick),
        }
    }

    /// Everything that was accepted comes to its end.
    fn wind_down(&mut self) {
        self.feed(Event::Stop);
        while let Some(&slot) = self.filling.keys().next() {
            self.commit(slot);
        }
        while let Some(&slot) = self.in_flight.keys().next() {
            self.feed(completed(slot));
        }
        while let Some(&slot) = self.delivered.keys().next() {
            self.release(slot);
        }
    }
}

/// Numbers below `n` from a seed (SplitMix64; Steele, Lea and Flood, OOPSLA 2014).
fn random_numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |n| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % n as u64).expect("below n")
    }
}

#[test]
fn whatever_happens_every_request_is_answered_once_and_no_slot_is_used_twice() {
    for seed in 0..400 {
        let mut random = random_numbers(seed);
        let mut world = World::new(SchedulerSpec {
            executor_count: 1 + random(4),
            depth: 1 + random(3),
            batch_size: 1 + random(6),
            shares_slots: random(4) > 0,
            batching_delay: Nanos(random(100) as u64),
            queue_capacity: 1 + random(8),
        });
        for _ in 0..600 {
            world.stir(&mut random);
        }
        world.wind_down();
        assert!(world.is_finished, "seed {seed}");
        assert!(world.waiting.is_empty(), "seed {seed}: somebody waits for ever");
        assert_eq!(world.answered.len() as u64, world.next_ticket, "seed {seed}");
    }
}
