//! The scheduler driven by a real thread: one submitter owns a scheduler, its executors, and the slots
//! that are neither with a producer nor on the device nor with a consumer.
//!
//! Everything reaches it through one channel, so nothing it owns is shared. It sleeps in that channel
//! until a message comes or the scheduler's deadline is due; while executions run, it may ask its executors
//! again and again instead, and while all its slots run it waits for the device itself.

use std::collections::VecDeque;
use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::core_probe::CoreProbe;
use super::patience::Patience;
use super::producer::{Granted, Request};
use super::response::{Execution, Response};
use super::running::Running;
use super::scheduler::{Action, Event, Refusal, Scheduler, SchedulerSpec, SlotNumber, Ticket};
use super::state::PoolState;
use crate::backend::{Completion, Executor, Outcome, Rejected, Slot, SlotId, Span, StageTimes, Wait, Waker};
use crate::error::Error;
use crate::units::{Clock, Nanos};

/// What producers, consumers and executors tell a submitter.
pub(super) enum Message {
    Reserve {
        samples: usize,
        reply: Sender<Result<Granted, Refusal>>,
    },
    Commit {
        slot: Slot,
        request: Request,
    },
    Abandon {
        slot: Slot,
    },
    Release {
        slot: Slot,
        /// The memory of the execution that was read.
        shell: Option<Arc<Execution>>,
    },
    /// Who has read the outputs keeps the slot, and fills it again.
    Refill {
        id: SlotId,
        shell: Arc<Execution>,
    },
    /// Somebody wants to know how the executors are supplied.
    State {
        reply: Sender<PoolState>,
    },
    /// An executor has finished something: the submitter's own number of it.
    Wake(usize),
    Stop,
}

/// The submitter's ties to the rest of the pool.
pub(super) struct Links {
    pub(super) inbox: Receiver<Message>,
    /// The other end of `inbox`, for wakers and for slots on their way back.
    pub(super) address: Sender<Message>,
    pub(super) responses: Sender<Response>,
    /// Requests accepted and not yet answered. Producers pick the submitter with the fewest; a stale
    /// value costs balance, never correctness, so `Relaxed` is enough.
    pub(super) outstanding: Arc<AtomicUsize>,
    /// Requests that wait for room, as of the last message. Stale, it costs one of them a slot's turn, so `Relaxed` is
    /// enough.
    pub(super) waiting: Arc<AtomicUsize>,
    /// Who waits for an answer sees by it that the submitter is still there.
    #[expect(dead_code, reason = "it is there to be dropped")]
    pub(super) life: Arc<()>,
    pub(super) clock: Clock,
}

/// Which executors are to be asked for completions.
enum Whom {
    Everybody,
    /// Those that have woken the submitter.
    WhoWoke,
    /// They, and this one, which was waited for.
    WhoWokeAnd(usize),
}

/// What a submitter knows of the pool besides its scheduler's part.
pub(super) struct SubmitterSpec {
    /// Pool-wide number of its first executor.
    pub(super) first_executor: usize,
    /// The numbers of samples that executions may have, ascending, the last one what a slot has room for.
    pub(super) batch_steps: Arc<[usize]>,
    /// How it waits for its executors.
    pub(super) wait: Wait,
    /// Whether it starts an execution only when the one before has ended, which a sound one never does.
    pub(super) waits_per_item: bool,
}

pub(super) struct Submitter {
    /// First, so that the inbox goes before the executors: nobody waits for room in it who is waited for.
    links: Links,
    scheduler: Scheduler,
    executors: Vec<Box<dyn Executor>>,
    /// What each of them does otherwise than asked.
    remarks: Vec<Option<Arc<str>>>,
    /// Pool-wide number of the first of `executors`.
    first_executor: usize,
    depth: usize,
    batch_size: usize,
    /// As in [`SubmitterSpec`]: a slot with fewer samples than the smallest that holds them runs with what was in it before.
    batch_steps: Arc<[usize]>,
    patience: Patience,
    core: CoreProbe,
    /// Executors that have woken the submitter and were not asked since.
    woken: Vec<bool>,
    running: Running,
    waits_per_item: bool,
    /// Executions that are due and held back, by a planted fault only.
    held_back: VecDeque<(SlotNumber, usize)>,
    /// Slots that are here now, by number.
    home: Vec<Option<Slot>>,
    /// The requests in each slot.
    requests: Vec<Vec<Request>>,
    /// Executions that have ended and were not delivered yet.
    completed: Vec<Option<Completion>>,
    /// Memory for what is delivered next, kept so that the hot path does not allocate.
    shells: Vec<Arc<Execution>>,
    /// Producers that wait, by rising ticket.
    waiting: VecDeque<(Ticket, Sender<Result<Granted, Refusal>>)>,
    next_ticket: Ticket,
    /// What has happened and the scheduler has not heard of yet.
    events: VecDeque<Event>,
    /// Room for what the scheduler answers, kept so that the hot path does not allocate.
    actions: Vec<Action>,
    is_finished: bool,
}

impl Submitter {
    pub(super) fn new(
        spec: SchedulerSpec,
        mut executors: Vec<Box<dyn Executor>>,
        shape: SubmitterSpec,
        links: Links,
    ) -> Self {
        let SubmitterSpec { first_executor, batch_steps, wait, waits_per_item } = shape;
        let patience = Patience::new(wait);
        let mut home: Vec<Option<Slot>> = (0..spec.executor_count * spec.depth).map(|_| None).collect();
        for (index, executor) in executors.iter_mut().enumerate() {
            if patience.may_sleep() {
                let address = links.address.clone();
                // A send fails only after the submitter has ended, when nobody needs waking.
                executor.wake_with(Waker::new(move || drop(address.send(Message::Wake(index)))));
            }
            while let Some(slot) = executor.take_slot() {
                let number = (slot.id.executor - first_executor) * spec.depth + slot.id.index;
                home[number] = Some(slot);
            }
        }
        assert!(home.iter().all(Option::is_some), "bug: an executor has `depth` slots");
        // Pools beside each other do not follow each other around.
        let seed = first_executor as u64 ^ links.clock.unix_start().unwrap_or_default().0;
        let (woken, running) = (vec![false; executors.len()], Running::of(executors.len()));
        let mut scheduler = Scheduler::new(spec);
        // From now on executors lack input.
        scheduler.step(links.clock.now(), Event::Tick, &mut Vec::new());
        Self {
            scheduler,
            remarks: executors.iter().map(|executor| executor.remark().map(Arc::from)).collect(),
            executors,
            first_executor,
            depth: spec.depth,
            batch_steps,
            links,
            patience,
            core: CoreProbe::new(seed),
            woken,
            running,
            batch_size: spec.batch_size,
            waits_per_item,
            held_back: VecDeque::new(),
            requests: home.iter().map(|_| Vec::with_capacity(spec.batch_size)).collect(),
            completed: home.iter().map(|_| None).collect(),
            shells: Vec::with_capacity(home.len()),
            home,
            waiting: VecDeque::new(),
            next_ticket: 0,
            events: VecDeque::new(),
            actions: Vec::new(),
            is_finished: false,
        }
    }

    /// Serves the pool until it is stopped and everything accepted is answered.
    pub(super) fn run(mut self) {
        while !self.is_finished {
            self.pass(None);
        }
    }

    /// Waits until something has happened, at most for this long, and does what follows from all that has.
    pub(super) fn pass(&mut self, patience: Option<Duration>) {
        let whom = self.wait(patience);
        while let Ok(message) = self.links.inbox.try_recv() {
            self.receive(message);
            self.settle();
        }
        // To ask a device costs about a microsecond.
        match whom {
            Whom::Everybody => self.woken.fill(true),
            Whom::WhoWokeAnd(executor) => _ = self.collect(executor),
            Whom::WhoWoke => {}
        }
        for executor in 0..self.executors.len() {
            if std::mem::take(&mut self.woken[executor]) {
                self.collect_all(executor);
            }
        }
    }

    /// Whether it was stopped, and everything accepted is answered.
    pub(super) fn has_finished(&self) -> bool {
        self.is_finished
    }

    /// In virtual time: takes in one message, or lets the scheduler look at the clock where there is none,
    /// and collects what has finished. Each turn is as short as it can be, since other submitters run at the
    /// same time.
    pub(super) fn turn(&mut self) {
        match self.links.inbox.try_recv() {
            Ok(message) => self.receive(message),
            Err(_) => self.events.push_back(Event::Tick),
        }
        self.settle();
        (0..self.executors.len()).for_each(|executor| self.collect_all(executor));
    }

    /// Whether a message waits.
    pub(super) fn has_mail(&self) -> bool {
        !self.links.inbox.is_empty()
    }

    /// When its scheduler wants to look at the clock again.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        self.scheduler.deadline()
    }

    fn is_due(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= self.links.clock.now())
    }

    /// How its executors are supplied, and whether it had its core for itself.
    pub(super) fn state(&self) -> PoolState {
        let (calls, shared_core_calls) = self.core.seen();
        PoolState { calls, shared_core_calls, ..self.scheduler.state(self.links.clock.now()) }
    }

    /// One of the executors, through which the device is reached.
    pub(super) fn executor(&mut self) -> Option<&mut Box<dyn Executor>> {
        self.executors.first_mut()
    }

    /// Waits for a message or a deadline that is due, and says which executors are to be asked then. Where there is neither
    /// it looks no further, sleeps until the device has finished something, or sleeps until there is, at most for this
    /// long.
    fn wait(&mut self, patience: Option<Duration>) -> Whom {
        if self.running.total() > 0 && self.patience.asks_again(self.links.clock.now()) {
            self.glance();
            return Whom::Everybody;
        }
        if self.has_mail() {
            return Whom::WhoWoke;
        }
        if self.has_only_the_device_to_wait_for()
            && let Some(executor) = self.running.next()
            && self.executors[executor].wait()
        {
            return Whom::WhoWokeAnd(executor);
        }
        if self.is_due() {
            self.events.push_back(Event::Tick);
            self.settle();
            return Whom::WhoWoke;
        }
        self.executors.iter_mut().for_each(|executor| executor.expect_sleep());
        let due = self.scheduler.deadline().map(|deadline| (deadline - self.links.clock.now()).to_duration());
        let message = match due.into_iter().chain(patience).min() {
            None => self.links.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(patience) => self.links.inbox.recv_timeout(patience),
        };
        match message {
            Ok(message) => self.receive(message),
            Err(RecvTimeoutError::Timeout) => self.events.push_back(Event::Tick),
            Err(RecvTimeoutError::Disconnected) => unreachable!("bug: we hold a sender ourselves"),
        }
        self.settle();
        Whom::WhoWoke
    }

    /// Whether every slot runs, so that no message can start anything. Nobody has to be woken by somebody else then: that
    /// is two switches of threads less for an execution. While one executor is waited for another one may finish, so each
    /// needs a second execution that keeps it busy until that is seen, and all have to be of one size, or a short one
    /// would wait for a long one.
    fn has_only_the_device_to_wait_for(&self) -> bool {
        self.depth > 1 && self.running.total_whole() == self.home.len()
    }

    /// As [`wait`](Self::wait) without sleep.
    fn glance(&mut self) {
        match self.links.inbox.try_recv() {
            Ok(message) => self.receive(message),
            Err(_) if self.is_due() => self.events.push_back(Event::Tick),
            Err(_) => return hint::spin_loop(),
        }
        self.settle();
    }

    fn receive(&mut self, message: Message) {
        self.patience.stir();
        match message {
            Message::Reserve { samples, reply } => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.waiting.push_back((ticket, reply));
                self.events.push_back(Event::Reserve { ticket, samples });
            }
            Message::Commit { slot, request } => {
                let samples = request.samples.len();
                let slot = self.take_in(slot);
                self.requests[slot].push(request);
                self.events.push_back(Event::Commit { slot, samples });
            }
            Message::Abandon { slot } => {
                self.links.outstanding.fetch_sub(1, Ordering::Relaxed);
                let slot = self.take_in(slot);
                self.events.push_back(Event::Abandon { slot });
            }
            Message::Release { slot, shell } => {
                self.shells.extend(shell);
                let slot = self.take_in(slot);
                self.events.push_back(Event::Release { slot });
            }
            Message::Refill { id, shell } => {
                self.shells.push(shell);
                self.events.push_back(Event::Refill { slot: self.number(id) });
            }
            // Whoever asked may be gone.
            Message::State { reply } => drop(reply.send(self.state())),
            Message::Wake(executor) => self.woken[executor] = true,
            Message::Stop => self.events.push_back(Event::Stop),
        }
    }

    fn collect_all(&mut self, executor: usize) {
        while self.collect(executor) {}
    }

    /// Takes in a completion of an executor, if there is one.
    fn collect(&mut self, executor: usize) -> bool {
        let Some(completion) = self.executors[executor].poll() else { return false };
        // Where the executor does not say when it ended, it has just done so.
        let end = completion.times.compute.end;
        let end = if end > Nanos::ZERO { end } else { self.links.clock.now() };
        self.running.end(executor, completion.slot.batch_size == self.batch_size, end);
        self.patience.stir();
        self.complete(completion);
        self.settle();
        self.start_held_back();
        true
    }

    fn start_held_back(&mut self) {
        while self.running.total() == 0
            && let Some((slot, samples)) = self.held_back.pop_front()
        {
            self.enqueue(slot, samples);
            self.settle();
        }
    }

    /// Feeds the scheduler what has happened, and does what it says, until both are quiet.
    fn settle(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        while let Some(event) = self.events.pop_front() {
            self.scheduler.step(self.links.clock.now(), event, &mut actions);
            for action in actions.drain(..) {
                self.act(action);
            }
        }
        self.actions = actions;
        self.links.waiting.store(self.waiting.len(), Ordering::Relaxed);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Grant { ticket, slot, offset } => {
                let slot = self.give_out(slot);
                let granted = Granted::new(slot, offset, self.links.address.clone());
                self.reply(ticket, Ok(granted));
            }
            Action::Refuse { ticket, refusal } => {
                self.links.outstanding.fetch_sub(1, Ordering::Relaxed);
                self.reply(ticket, Err(refusal));
            }
            Action::Enqueue { slot, samples } if self.waits_per_item && self.running.total() > 0 => {
                self.held_back.push_back((slot, samples));
            }
            Action::Enqueue { slot, samples } => self.enqueue(slot, samples),
            Action::Deliver { slot } => self.deliver(slot),
            Action::Finish => self.is_finished = true,
        }
    }

    fn reply(&mut self, ticket: Ticket, answer: Result<Granted, Refusal>) {
        let position = self.waiting.iter().position(|(waiting, _)| *waiting == ticket);
        let (_, reply) = position.and_then(|at| self.waiting.remove(at)).expect("bug: an unknown ticket");
        // The producer may be gone; then what it was granted comes back by itself.
        drop(reply.send(answer));
    }

    fn enqueue(&mut self, number: SlotNumber, samples: usize) {
        let mut slot = self.give_out(number);
        slot.batch_size = self.batch_steps[self.batch_steps.partition_point(|step| *step < samples)];
        let is_whole = slot.batch_size == self.batch_size;
        let start = self.links.clock.now();
        let executor = number / self.depth;
        match self.executors[executor].enqueue(slot) {
            Ok(()) => {
                self.running.start(executor, is_whole, start);
                // Calls that take virtual time run on no core.
                if self.links.clock.virtual_clock().is_none() {
                    self.core.after_call(self.links.clock.now() - start);
                }
            }
            Err(rejected) => {
                let enqueue = Span { start, end: self.links.clock.now() };
                let times = StageTimes { enqueue, ..StageTimes::default() };
                let Rejected { slot, error } = *rejected;
                let is_lost = matches!(error, Error::DeviceLost { .. });
                let outcome = if is_lost { Outcome::Lost(error) } else { Outcome::Failed(error) };
                self.complete(Completion { slot, outcome, times });
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let slot = self.number(completion.slot.id);
        let executor_is_lost = matches!(completion.outcome, Outcome::Lost(_));
        self.completed[slot] = Some(completion);
        self.events.push_back(Event::Completed { slot, executor_is_lost });
    }

    fn deliver(&mut self, number: SlotNumber) {
        let completion = self.completed[number].take().expect("bug: delivery of a slot that has not run");
        let readable = self.links.clock.now();
        self.links.outstanding.fetch_sub(self.requests[number].len(), Ordering::Relaxed);
        let remark = self.remarks[number / self.depth].clone();
        let samples = self.requests[number].iter().map(|request| request.samples.len()).sum();
        let execution = Execution::new(completion, samples, readable, remark, self.links.address.clone());
        let execution = execution.shared(self.shells.pop());
        // Nobody may be listening any more; the slot then comes back by itself.
        let send = |request, share| drop(self.links.responses.send(Response::new(request, share)));
        let mut requests = self.requests[number].drain(..);
        let last = requests.next_back();
        requests.for_each(|request| send(request, Arc::clone(&execution)));
        // The last one gets our own share, so that its reader finds nobody else there.
        if let Some(request) = last {
            send(request, execution);
        }
    }

    fn take_in(&mut self, slot: Slot) -> SlotNumber {
        let number = self.number(slot.id);
        self.home[number] = Some(slot);
        number
    }

    fn give_out(&mut self, number: SlotNumber) -> Slot {
        self.home[number].take().expect("bug: the scheduler gave away a slot that is not here")
    }

    fn number(&self, id: SlotId) -> SlotNumber {
        (id.executor - self.first_executor) * self.depth + id.index
    }
}
