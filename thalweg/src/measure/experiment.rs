//! Running one configuration under one load, and measuring it.
//!
//! Two threads besides the pool's: one sends requests at their intended times, the calling thread reads
//! responses, compares them with the reference and cuts them into windows. Where slots run again as they are, the
//! calling thread drives the pool too, and no other one has anything to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::feed::{Feed, Permits};
use super::host_use::HostUse;
use super::observation::{Observation, Situation};
use super::{Arrival, Feeding, Load, Measurement, Workload, virtual_run};
use crate::backend::{ClockAlone, Observer, PlantedFault, Transfers};
use crate::error::{Error, Result};
use crate::pool::{
    Configuration, ExecutionPool, LocalPool, NoResponse, Order, Producer, QUEUE_CAPACITY, Reservation,
    Response, Responses, execution_sizes,
};
use crate::units::{Clock, Nanos};

/// How often a measurement looks whether it was stopped.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Discarded time at the start.
    pub warm_up: Duration,
    /// Shortest length of one measurement window.
    pub window: Duration,
    /// Windows after which it ends even if they do not agree. From three on, three that agree end it.
    pub max_windows: usize,
    /// After so long it ends with what there is, of slow networks too, whose windows last until they hold several
    /// requests; `None` where those are waited for.
    pub longest: Option<Duration>,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            warm_up: Duration::from_millis(500),
            window: Duration::from_secs(1),
            max_windows: 10,
            longest: None,
        }
    }
}

/// Asks a measurement or a search to end early, from any thread.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Asks to end.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Refuses to go on where somebody asked.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.is_requested() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Whether the device is asked for its counters while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observing {
    /// It is, where it has any.
    #[default]
    On,
    /// Only for its clock, which takes microseconds: where the host's CPU time is measured.
    Clock,
    /// It is not: to see what asking costs.
    Off,
}

/// Pools that are measured at the same time: each runs on until all of them were measured, or the last would be alone.
pub(super) struct Together(AtomicUsize);

impl Together {
    /// So many pools.
    pub(super) fn of(count: usize) -> Self {
        Self(AtomicUsize::new(count))
    }

    fn are_measured(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// One of several pools, while it is measured.
struct Member<'a>(&'a Together);

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pool that waits for work.
pub(super) struct Started {
    pool: Pool,
    clock: Clock,
}

/// Who drives the executors.
enum Pool {
    /// Threads of its own.
    OnThreads(ExecutionPool, Responses),
    /// Whoever reads the responses.
    Here(Box<LocalPool>),
}

impl Pool {
    fn take_observer(&mut self) -> Option<Box<dyn Observer>> {
        match self {
            Self::OnThreads(pool, _) => pool.take_observer(),
            Self::Here(pool) => pool.take_observer(),
        }
    }

    fn producer(&self) -> Producer {
        match self {
            Self::OnThreads(pool, _) => pool.producer(),
            Self::Here(pool) => pool.producer(),
        }
    }

    fn next_within(&mut self, patience: Duration) -> std::result::Result<Response, NoResponse> {
        match self {
            Self::OnThreads(_, responses) => responses.next_within(patience),
            Self::Here(pool) => pool.next_within(patience),
        }
    }

    fn situation(&self) -> Situation {
        let pool = match self {
            Self::OnThreads(pool, _) => pool.state(),
            Self::Here(pool) => pool.state(),
        };
        Situation { host: HostUse::now(), pool }
    }

    fn stop(self) -> Result<()> {
        match self {
            Self::OnThreads(pool, _) => pool.stop(),
            // It stops as it is dropped.
            Self::Here(_) => Ok(()),
        }
    }
}

/// One configuration under one load.
pub struct Experiment<'a> {
    /// What runs, where, with which samples.
    pub workload: &'a Workload,
    /// The pool.
    pub configuration: Configuration,
    /// How it is driven.
    pub load: Load,
    /// How long.
    pub pacing: Pacing,
    /// How samples get into the slots.
    pub feeding: Feeding,
    /// Whether counters are read.
    pub observing: Observing,
}

impl Experiment<'_> {
    /// The same with slots filled in another way than the workload's.
    #[must_use]
    pub fn fed(self, feeding: Feeding) -> Self {
        Self { feeding, ..self }
    }

    /// The same with the device's counters read or left alone.
    #[must_use]
    pub fn observed(self, observing: Observing) -> Self {
        Self { observing, ..self }
    }

    /// Who reads the counters, where that is wanted.
    pub(super) fn observer(&self, offered: Option<Box<dyn Observer>>) -> Option<Box<dyn Observer>> {
        match self.observing {
            Observing::On => offered,
            Observing::Clock => offered.map(|observer| Box::new(ClockAlone(observer)) as Box<dyn Observer>),
            Observing::Off => None,
        }
    }

    /// Builds the pool, warms it up, measures until the windows agree, and takes it down. Where outputs differ because
    /// one stream gives something else at their batch size too, it begins again with that as the reference.
    ///
    /// # Errors
    /// [`Error::WrongResult`] where an output differs from the reference, [`Error::RequestsFailed`] or
    /// [`Error::StreamsLost`] where not a single request succeeded, [`Error::Interrupted`] where `stop` came before there was
    /// enough to say anything, and whatever the backend says where the pool cannot be made.
    pub fn run(&self, stop: &StopSignal) -> Result<Measurement> {
        self.load.check(self.configuration.batch_size)?;
        if self.workload.engine.is_simulated() {
            return virtual_run::run(self, stop);
        }
        let workload = self.workload;
        loop {
            let measured = self.drive(self.start()?, &Together::of(1), stop);
            let Err(Error::WrongResult { batch_size, .. }) = measured else { return measured };
            if !workload.reference.learn(&workload.engine, &workload.inputs, batch_size)? {
                return measured;
            }
            // Others are likely to differ too.
            if workload.engine.prepares_executions() {
                for size in execution_sizes(workload.engine.as_ref(), &self.configuration) {
                    workload.reference.learn(&workload.engine, &workload.inputs, size)?;
                }
            }
        }
    }

    /// As [`run`](Self::run), for whoever compares what was measured with something else: what was cut short may be a
    /// completion or two, and what requests failed in is of another load.
    ///
    /// # Errors
    /// As there; [`Error::Interrupted`] where `stop` came at all, [`Error::StreamsLost`] and [`Error::RequestsFailed`] where
    /// any were.
    pub fn run_whole(&self, stop: &StopSignal) -> Result<Measurement> {
        whole(self.run(stop)?, stop)
    }

    /// The pool, before anything is asked of it.
    pub(super) fn start(&self) -> Result<Started> {
        let (clock, engine) = (Clock::start(), Arc::clone(&self.workload.engine));
        let pool = if self.refilling() == Refilling::AsItIs && self.configuration.submitters == 1 {
            Pool::Here(Box::new(LocalPool::start(engine, &self.configuration, clock.clone())?))
        } else {
            let pool = ExecutionPool::start(engine, &self.configuration, clock.clone())?;
            let responses = pool.responses(Order::Completion);
            Pool::OnThreads(pool, responses)
        };
        Ok(Started { pool, clock })
    }

    /// Warms the pool up, measures until the windows agree, and takes it down once all that are measured with it are done.
    pub(super) fn drive(
        &self,
        started: Started,
        together: &Together,
        stop: &StopSignal,
    ) -> Result<Measurement> {
        let member = Member(together);
        let Started { mut pool, clock } = started;
        let mut observation = Observation::new(self, clock.clone(), self.observer(pool.take_observer()));

        // Each outstanding request has one at most, and each slot is in one room at most, so there is always room.
        let most = self.load.outstanding().unwrap_or(0) + 1;
        let slots = self.configuration.streams * self.configuration.depth;
        let ((ask, asks), (room, rooms)) = (bounded(most), bounded(most.min(slots + 1)));
        let (permits, left) = (Permits { asks, rooms: rooms.clone() }, rooms);
        let (producer, load, inputs) = (pool.producer(), self.load, &self.workload.inputs);
        let (feeding, refilling) = (self.feeding(), self.refilling());
        let refiller = pool.producer();
        let preparation = self.preparation();
        let sender = Feed {
            producer,
            load,
            seed: self.workload.seed,
            requests_at_once: self.requests_at_once(),
            feeding,
            preparation,
            inputs,
            clock: clock.clone(),
            permits,
        };
        let fed = std::thread::scope(|scope| {
            let sender = scope.spawn(|| sender.run());
            let next = Next { ask, room, left, clock, refiller, refilling };
            let observed = read((&mut observation, member), &mut pool, next, &|| sender.is_finished(), stop);
            // Stopping refuses the request that the sender may be waiting with, so it ends.
            let stopped = pool.stop();
            let sent = sender.join().map_err(|_| Error::Bug("the sending thread panicked".to_owned()))?;
            observed.and(stopped).and(sent)
        })?;
        Ok(Measurement { feed: Some(fed), ..observation.summarise(self)? })
    }

    /// Requests for which all senders together ask at once: as many as a slot has room for, or it would start with the first
    /// of them. One that asked for more would be given room for all, and fill one after the other what others could
    /// fill beside it.
    pub(super) fn requests_at_once(&self) -> usize {
        let of_a_slot = self.configuration.batch_size / self.load.samples_per_request;
        // What each is prepared for by itself is asked for by itself.
        if self.preparation() > Nanos::ZERO { 1 } else { of_a_slot.clamp(1, QUEUE_CAPACITY / 2) }
    }

    /// Whether the load always has work for each slot.
    pub(super) fn fills_every_slot(&self) -> bool {
        let Configuration { streams, depth, batch_size, .. } = self.configuration;
        let room = (streams * depth).saturating_mul(batch_size);
        let is_enough = |requests: usize| requests.saturating_mul(self.load.samples_per_request) >= room;
        matches!(self.load.arrival, Arrival::Concurrency(count) if is_enough(count))
    }

    /// How far one stream is from a sample alone at a size of its executions, where that had to be found out.
    pub(super) fn batch_difference(&self) -> Option<f64> {
        let Workload { engine, reference, .. } = self.workload;
        let sizes = execution_sizes(engine.as_ref(), &self.configuration).into_iter();
        sizes.filter_map(|size| reference.batch_difference(size)).reduce(f64::max)
    }

    /// How inputs get into the slots. Without transfers a slot computes on its first ones for ever.
    fn feeding(&self) -> Feeding {
        match self.configuration.transfers {
            Transfers::On => self.feeding,
            Transfers::Off => Feeding::Resident,
        }
    }

    pub(super) fn preparation(&self) -> Nanos {
        PlantedFault::preparation(self.configuration.fault)
    }

    /// Slots are kept where every one is wanted: else a request would go to a busy stream while another one is idle. Where
    /// senders are slower than the device it may all the same, until they have filled every slot again.
    fn refilling(&self) -> Refilling {
        let is_whole = self.load.samples_per_request == self.configuration.batch_size;
        match (self.fills_every_slot() && is_whole, self.feeding()) {
            (false, _) => Refilling::Never,
            // A planted fault has its senders prepare something for each request.
            (true, Feeding::Resident) if self.preparation() == Nanos::ZERO => Refilling::AsItIs,
            (true, _) => Refilling::BySender,
        }
    }
}

/// Refuses what was cut short, or what requests failed in.
pub(super) fn whole(measurement: Measurement, stop: &StopSignal) -> Result<Measurement> {
    stop.check()?;
    measurement.check_requests()?;
    Ok(measurement)
}

/// Whether a slot whose outputs were read takes the next request of a closed loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refilling {
    /// It goes home.
    Never,
    /// A sender fills it.
    BySender,
    /// It runs again with the inputs that it has.
    AsItIs,
}

/// What follows a response.
struct Next {
    ask: Sender<Nanos>,
    room: Sender<(Nanos, Reservation)>,
    /// Room that no sender has taken.
    left: Receiver<(Nanos, Reservation)>,
    clock: Clock,
    refiller: Producer,
    refilling: Refilling,
}

/// Room that nobody fills any more goes home: a pool that stops waits for it.
impl Drop for Next {
    fn drop(&mut self) {
        self.left.try_iter().for_each(drop);
    }
}

impl Next {
    /// Lets another request take the place of one in a closed loop. A sender that is gone sends nothing any more.
    fn follow(&self, response: Response) {
        let sample = response.tag();
        let room = if self.refilling == Refilling::Never { None } else { self.refiller.refill(response) };
        match room {
            Some(room) if self.refilling == Refilling::AsItIs => {
                room.commit(sample);
            }
            Some(room) => drop(self.room.send((self.clock.now(), room))),
            None => drop(self.ask.send(self.clock.now())),
        }
    }
}

/// Reads responses until the windows agree, there are enough of them, or nothing more is to be had: somebody
/// stopped it, or all streams are lost. Then it only keeps the pool at work, as long as others are still measured.
fn read(
    (observation, member): (&mut Observation<'_>, Member<'_>),
    pool: &mut Pool,
    next: Next,
    sender_is_gone: &dyn Fn() -> bool,
    stop: &StopSignal,
) -> Result<()> {
    let outstanding = observation.outstanding();
    // The sender lives as long as we do not drop what comes next.
    for _ in 0..outstanding.unwrap_or(0) {
        let _ = next.ask.send(next.clock.now());
    }
    let follow = |response: Response| {
        if outstanding.is_some() {
            next.follow(response);
        }
    };
    let is_last = |came: &std::result::Result<Response, NoResponse>| match came {
        Ok(_) => false,
        Err(NoResponse::Yet) => sender_is_gone(),
        Err(NoResponse::Ever) => true,
    };
    while !observation.is_complete() && !stop.is_requested() {
        let came = pool.next_within(STOP_CHECK);
        if is_last(&came) {
            break;
        }
        let Ok(response) = came else { continue };
        observation.take(&response, &|| pool.situation())?;
        follow(response);
        observation.note_clock();
    }
    observation.end(pool.situation());
    let together = member.0;
    drop(member);
    while !together.are_measured() && !stop.is_requested() {
        let came = pool.next_within(STOP_CHECK);
        if is_last(&came) {
            break;
        }
        came.into_iter().for_each(follow);
    }
    drop(next);
    // Whatever still runs is left to the pool's stop.
    Ok(())
}
