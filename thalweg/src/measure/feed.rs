//! Sending requests: when, and how their inputs get into the slots.
//!
//! Filling a slot may take longer than running it: one thread writes to page-locked memory at about 9 GB/s, which is
//! 15,000 ResNet-50 images a second, while a GPU computes twice as many. So several threads do it. Small requests are
//! sent by all of them, each its own; the copies of a large one are cut into pieces that they share.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, after, never, select};
use rayon::ThreadPoolBuilder;
use serde::{Deserialize, Serialize};

use super::{Load, SampleSet};
use crate::backend::{DeviceSpec, SlotId};
use crate::error::{Error, Result};
use crate::pool::{Came, Producer, Reservation, RoomRequest};
use crate::units::{Clock, Nanos};

/// Threads that copy for a device of its own memory, where there are cores enough. Eight write as fast as a PCIe 5.0 x16
/// link reads, 55 GB/s, and faster (docs/benchmarks.md, feeding).
const MOST_COPYING_THREADS: usize = 8;

/// What one thread copies by itself, in about 0.1 ms: to wake others and to wait for them takes as long.
const ONE_THREADS_BYTES: usize = 1 << 20;

/// Share of the time from which on filling counts as the limit. What is missing to 1 is the time it takes to ask for
/// the next slot, about 10 microseconds a request.
const STARVED_SHARE: f64 = 0.9;

/// How inputs get into the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feeding {
    /// Each request's samples are copied into its slot, as an application's inputs are.
    Copy {
        /// Threads that send small requests side by side, and that share the copies of a large one.
        threads: usize,
    },
    /// A slot is filled once and runs with the same inputs from then on, as in trtexec: what the device can do
    /// when no host fills anything.
    Resident,
}

impl Default for Feeding {
    fn default() -> Self {
        Self::Copy { threads: 1 }
    }
}

impl Feeding {
    /// Copies, with as many threads as suit the device: one where the cores compute, half of the cores otherwise.
    pub fn suited_to(device: &DeviceSpec) -> Self {
        let threads =
            if device.is_host() { 1 } else { (device.core_count / 2).clamp(1, MOST_COPYING_THREADS) };
        Self::Copy { threads }
    }
}

impl fmt::Display for Feeding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { threads: 1 } => f.write_str("copied by 1 thread"),
            Self::Copy { threads } => write!(f, "copied by {threads} threads"),
            Self::Resident => f.write_str("filled once and resident"),
        }
    }
}

/// Earlier results had one sender.
fn one() -> usize {
    1
}

/// What the sending side did over a whole measurement, warm-up included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedSummary {
    /// How inputs got into the slots.
    pub feeding: Feeding,
    /// Share of the time in which inputs were prepared or a slot was being filled, on average over those who do so at
    /// the same time. Close to 1 the streams wait for their inputs.
    pub busy_share: f64,
    /// How many slots may be filled at the same time.
    #[serde(default = "one")]
    pub senders: usize,
    /// Bytes per second while a slot was being filled, by all senders together.
    pub fill_bytes_per_s: f64,
    /// Part of the time of `busy_share` in which inputs were prepared: as long for each request, whatever it holds.
    #[serde(default)]
    pub preparing_share: f64,
}

/// Bytes per second that a thread copies by itself: [`ONE_THREADS_BYTES`] in about 0.1 ms. What is filled in more slowly takes its
/// time whatever it is.
const BYTES_PER_S_OF_A_COPY: f64 = 10e9;

impl FeedSummary {
    /// Part of the time of a fill that does not grow with what is filled in, 0..1.
    pub(crate) fn fixed_share(&self) -> f64 {
        let of_one = self.fill_bytes_per_s / self.senders.max(1) as f64;
        let waiting = 1.0 - (of_one / BYTES_PER_S_OF_A_COPY).min(1.0);
        self.preparing_share + (1.0 - self.preparing_share) * waiting
    }

    /// Whether filling slots, not the device, limited the throughput: a sender that fills all the time leaves streams
    /// waiting.
    pub fn is_limiting(&self) -> bool {
        self.busy_share > STARVED_SHARE
    }
}

/// Leave to send requests.
pub(super) struct Permits {
    /// One for each request that asks the pool for room: since when it may be sent.
    pub asks: Receiver<Nanos>,
    /// Room for one more each, since then: slots whose outputs have just been read. A submitter answers nobody while it
    /// enqueues, so these save a sender the wait for it.
    pub rooms: Receiver<(Nanos, Reservation)>,
}

/// What the sending thread needs.
pub(super) struct Feed<'a> {
    pub producer: Producer,
    pub load: Load,
    /// Seed of when requests of an open loop come.
    pub seed: u64,
    /// Requests for which all senders together ask at once.
    pub requests_at_once: usize,
    pub feeding: Feeding,
    /// What a sender needs for each request before it fills its room; a planted fault, else nothing.
    pub preparation: Nanos,
    pub inputs: &'a SampleSet,
    pub clock: Clock,
    /// For a closed loop; both are disconnected at the end.
    pub permits: Permits,
}

impl Feed<'_> {
    /// Sends requests until the measurement ends.
    pub fn run(&self) -> Result<FeedSummary> {
        let schedule = Schedule::of(&self.load, self.seed, self.clock.now());
        let request_bytes = self.inputs.byte_count() * self.load.samples_per_request;
        let filled = match self.feeding {
            Feeding::Copy { threads: 1 } => self.send(&schedule, 1, Filler::serial(self.inputs))?,
            Feeding::Copy { threads } if request_bytes <= ONE_THREADS_BYTES => {
                self.send_side_by_side(&schedule, self.useful_senders(threads))?
            }
            Feeding::Copy { threads } => {
                let pool = ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("thalweg-feed-{index}"))
                    .build()
                    .map_err(|error| {
                        Error::io("start", "the copying threads")(std::io::Error::other(error))
                    })?;
                pool.install(|| self.send(&schedule, 1, Filler::parallel(self.inputs)))?
            }
            Feeding::Resident => self.send(&schedule, 1, Filler::resident(self.inputs))?,
        };
        Ok(filled.summary(self.feeding))
    }

    /// No more threads than there may be requests: others would only take turns in being woken.
    fn useful_senders(&self, threads: usize) -> usize {
        self.load.outstanding().map_or(threads, |most| most.clamp(1, threads))
    }

    /// On threads of their own, since one could not even keep up with the messages: about 10,000 requests a second.
    fn send_side_by_side(&self, schedule: &Schedule, senders: usize) -> Result<Filled> {
        let all = std::thread::scope(|scope| {
            let send = || self.send(schedule, senders, Filler::serial(self.inputs));
            let threads: Vec<_> = (0..senders).map(|_| scope.spawn(send)).collect();
            let joined = threads.into_iter().map(|thread| {
                thread.join().map_err(|_| Error::Bug("a sending thread panicked".to_owned()))?
            });
            joined.collect::<Result<Vec<Filled>>>()
        })?;
        let mean =
            |of: fn(&Filled) -> Nanos| Nanos(all.iter().map(|one| of(one).0).sum::<u64>() / senders as u64);
        Ok(Filled {
            senders,
            preparing: mean(|one| one.preparing),
            filling: mean(|one| one.filling),
            wall: all.iter().map(|one| one.wall).max().unwrap_or_default(),
            bytes: all.iter().map(|one| one.bytes).sum(),
        })
    }

    /// Sends what of the schedule nobody else does. Who has no room asks for it once it may send: room that one got
    /// before another one's turn would lie idle.
    fn send(&self, schedule: &Schedule, senders: usize, mut filler: Filler<'_>) -> Result<Filled> {
        let mut filled = Filled { senders: 1, ..Filled::default() };
        let most = self.requests_at_once.div_ceil(senders);
        let mut asked = Asked { requests: VecDeque::with_capacity(most), most, due: None };
        while let Some((intended, room)) = self.next_room(schedule, &mut asked) {
            let mut reservation = match room {
                // The streams may be gone; what they failed with is on its way to the observer.
                Err(Error::Stopped | Error::NoExecutor { .. }) => break,
                other => other?,
            };
            filled.preparing += self.prepare();
            let first_sample = schedule.next_request() * self.load.samples_per_request % self.inputs.count();
            let began = self.clock.now();
            let in_slot = filler.fill(&mut reservation, first_sample, &mut filled.bytes);
            filled.filling += self.clock.now() - began;
            reservation.commit_intended(in_slot as u64, intended);
        }
        filled.wall = self.clock.now() - schedule.start;
        Ok(filled)
    }

    /// Lets the time pass that a planted fault says, and gives how long it was.
    fn prepare(&self) -> Nanos {
        if self.preparation == Nanos::ZERO {
            return Nanos::ZERO;
        }
        let began = self.clock.now();
        std::thread::sleep(self.preparation.to_duration());
        self.clock.now() - began
    }

    /// Room for the next request, and when that was meant to be sent; `None` at the end.
    fn next_room(&self, schedule: &Schedule, asked: &mut Asked) -> Option<(Nanos, Result<Reservation>)> {
        let is_open = schedule.times.is_some();
        if is_open { self.room_when_due(schedule, asked) } else { self.room_when_allowed(asked) }
    }

    /// In a closed loop. A sender that has asked for room takes what else there is meanwhile: what it waits for may be in
    /// the slots that lie ready for it.
    fn room_when_allowed(&self, asked: &mut Asked) -> Option<(Nanos, Result<Reservation>)> {
        let Permits { asks, rooms } = &self.permits;
        if asked.requests.is_empty() {
            let intended = select! {
                recv(rooms) -> room => return room.ok().map(|(intended, room)| (intended, Ok(room))),
                recv(asks) -> ask => ask.ok()?,
            };
            if let Err(error) = self.ask(intended, asked) {
                return Some((intended, Err(error)));
            }
        }
        while asked.requests.len() < asked.most
            && let Ok(intended) = asks.try_recv()
        {
            if let Err(error) = self.ask(intended, asked) {
                return Some((intended, Err(error)));
            }
        }
        match asked.requests.front()?.1.wait_beside(rooms) {
            Came::Answer(room) => asked.requests.pop_front().map(|(intended, _)| (intended, room)),
            Came::Other(room) => room.map(|(intended, room)| (intended, Ok(room))),
        }
    }

    /// In an open loop: what becomes due while others wait for room is asked for as well.
    fn room_when_due(&self, schedule: &Schedule, asked: &mut Asked) -> Option<(Nanos, Result<Reservation>)> {
        loop {
            let due = match asked.due {
                Some(due) => due,
                None => *asked.due.insert(schedule.next_time()?),
            };
            let patience = (due - self.clock.now()).to_duration();
            let may_ask = asked.requests.len() < asked.most;
            if may_ask && patience == Duration::ZERO {
                asked.due = None;
                if let Err(error) = self.ask(due, asked) {
                    return Some((due, Err(error)));
                }
                continue;
            }
            let Some((_, first)) = asked.requests.front() else {
                if self.permits.asks.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected) {
                    return None;
                }
                continue;
            };
            let next = if may_ask { after(patience) } else { never() };
            if let Came::Answer(room) = first.wait_beside(&next) {
                return asked.requests.pop_front().map(|(intended, _)| (intended, room));
            }
        }
    }

    fn ask(&self, intended: Nanos, asked: &mut Asked) -> Result<()> {
        let request = self.producer.request(self.load.samples_per_request)?;
        asked.requests.push_back((intended, request));
        Ok(())
    }
}

/// What one sender has asked the pool for.
struct Asked {
    /// What has no room yet, and when each was meant to be sent; the longest first.
    requests: VecDeque<(Nanos, RoomRequest)>,
    /// How many there may be.
    most: usize,
    /// When the next one is due that this sender is to send, in an open loop.
    due: Option<Nanos>,
}

/// What is to be sent when, for all threads that send.
struct Schedule {
    start: Nanos,
    /// Of an open loop; a closed one sends when it may.
    times: Option<Mutex<Box<dyn Iterator<Item = Nanos> + Send>>>,
    requests: AtomicUsize,
}

impl Schedule {
    fn of(load: &Load, seed: u64, start: Nanos) -> Self {
        let times = load.send_times(seed).map(|times| Mutex::new(Box::new(times) as Box<_>));
        Self { start, times, requests: AtomicUsize::new(0) }
    }

    /// When the next request is due, in an open loop.
    fn next_time(&self) -> Option<Nanos> {
        let mut times = self.times.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        times.next().map(|time| self.start + time)
    }

    /// How many requests came before this one.
    fn next_request(&self) -> usize {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Filled {
    senders: usize,
    /// Means over the senders.
    preparing: Nanos,
    filling: Nanos,
    wall: Nanos,
    bytes: u64,
}

impl Filled {
    fn summary(&self, feeding: Feeding) -> FeedSummary {
        let busy = self.preparing + self.filling;
        FeedSummary {
            feeding,
            senders: self.senders,
            busy_share: busy.as_seconds() / self.wall.as_seconds().max(f64::MIN_POSITIVE),
            fill_bytes_per_s: self.bytes as f64 / self.filling.as_seconds().max(f64::MIN_POSITIVE),
            preparing_share: self.preparing.as_seconds() / busy.as_seconds().max(f64::MIN_POSITIVE),
        }
    }
}

/// Brings samples into reservations.
struct Filler<'a> {
    samples: &'a SampleSet,
    way: Way,
}

enum Way {
    Serial,
    /// On the threads of the pool that it is called on.
    Parallel,
    /// First sample of what lies at a place in a slot.
    Resident(HashMap<(SlotId, usize), usize>),
}

impl<'a> Filler<'a> {
    fn serial(samples: &'a SampleSet) -> Self {
        Self { samples, way: Way::Serial }
    }

    fn parallel(samples: &'a SampleSet) -> Self {
        Self { samples, way: Way::Parallel }
    }

    fn resident(samples: &'a SampleSet) -> Self {
        Self { samples, way: Way::Resident(HashMap::new()) }
    }

    /// Brings the samples from `first` on into the slot, or leaves what is there, adds up what was written, and
    /// says what the first sample is.
    fn fill(&mut self, reservation: &mut Reservation, first: usize, bytes: &mut u64) -> usize {
        let size = (self.samples.byte_count() * reservation.samples().len()) as u64;
        match &mut self.way {
            Way::Serial => self.samples.fill(reservation, first),
            Way::Parallel => self.samples.fill_in_parallel(reservation, first),
            Way::Resident(places) => {
                let place = (reservation.slot(), reservation.samples().start);
                if let Some(resident) = places.get(&place) {
                    return *resident;
                }
                self.samples.fill(reservation, first);
                places.insert(place, first);
            }
        }
        *bytes += size;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{self, Surroundings};
    use crate::measure::{Arrival, Workload, WorkloadSpec};
    use crate::model::Model;
    use crate::model::zoo::Network;
    use crate::pool::{Configuration, ExecutionPool, Order};

    /// With two slots and more senders than that, room would be lost where whoever may send is not who has it.
    #[test]
    fn no_sender_keeps_room_from_those_who_may_send() {
        let backend = backend::open("cpu", &Surroundings::default()).unwrap();
        let model = Model::from_proto(Network::Launch.generate(0), "launch.onnx").unwrap();
        let workload = Workload::prepare(backend.as_ref(), &model, &WorkloadSpec::default()).unwrap();
        let (threads, slots) = (4, 2);
        for _ in 0..5 {
            let clock = Clock::start();
            let configuration = Configuration { depth: slots, ..Configuration::default() };
            let engine = std::sync::Arc::clone(&workload.engine);
            let pool = ExecutionPool::start(engine, &configuration, clock.clone()).unwrap();
            let (ask, asks) = crossbeam_channel::bounded(slots);
            let (room, rooms) = crossbeam_channel::bounded(slots);
            let feed = Feed {
                producer: pool.producer(),
                load: Load { arrival: Arrival::Concurrency(threads), samples_per_request: 1 },
                seed: 0,
                requests_at_once: 1,
                feeding: Feeding::Copy { threads },
                preparation: Nanos::ZERO,
                inputs: &workload.inputs,
                clock,
                permits: Permits { asks, rooms },
            };
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| feed.run());
                // All of them wait before one of them may send.
                std::thread::sleep(Duration::from_millis(20));
                (0..slots).for_each(|_| ask.send(Nanos::ZERO).unwrap());
                let mut responses = pool.responses(Order::Completion);
                let patience = Duration::from_secs(20);
                let answered: Vec<_> = (0..slots).map(|_| responses.next_within(patience).is_ok()).collect();
                drop((ask, room));
                pool.stop().unwrap();
                sender.join().unwrap().unwrap();
                assert_eq!(answered, vec![true; slots]);
            });
        }
    }

    #[test]
    fn preparing_keeps_a_sender_busy_and_is_no_filling() {
        let [preparing, filling, wall] = [800_000, 100_000, 1_000_000].map(Nanos);
        let filled = Filled { senders: 1, preparing, filling, wall, bytes: 1_000_000 };
        let summary = filled.summary(Feeding::Copy { threads: 1 });
        assert!((summary.busy_share - 0.9).abs() < 1e-12, "{summary:?}");
        assert!((summary.fill_bytes_per_s - 1e10).abs() < 1.0, "{summary:?}");
        assert!((summary.preparing_share - 8.0 / 9.0).abs() < 1e-12, "{summary:?}");
    }
}
