//! Sending requests: when, and how their inputs get into the slots.
//!
//! One thread sends at the intended times. Where inputs are large, filling a slot takes longer than running it:
//! one thread writes to page-locked memory at about 9 GB/s, which is 15,000 ResNet-50 images a second, while a
//! GPU computes twice as many. So large copies are cut into pieces that several threads share.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rayon::ThreadPoolBuilder;
use serde::{Deserialize, Serialize};

use super::{Load, SampleSet};
use crate::backend::{DeviceSpec, SlotId};
use crate::error::{Error, Result};
use crate::pool::{Producer, Reservation, RoomRequest};
use crate::units::{Clock, Nanos};

/// Threads that copy for a device of its own memory, where there are cores enough. Eight reach about 50 GB/s, as
/// much as a PCIe 5.0 x16 link takes.
const MOST_COPYING_THREADS: usize = 8;

/// Share of the time from which on filling counts as the limit. What is missing to 1 is the time it takes to ask for
/// the next slot, about 10 microseconds a request.
const STARVED_SHARE: f64 = 0.9;

/// How inputs get into the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feeding {
    /// Each request's samples are copied into its slot, as an application's inputs are.
    Copy {
        /// Threads that share large copies, the sending one included.
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

/// What the sending side did over a whole measurement, warm-up included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedSummary {
    /// How inputs got into the slots.
    pub feeding: Feeding,
    /// Share of the time in which a slot was being filled. Close to 1 the streams wait for their inputs.
    pub busy_share: f64,
    /// Bytes per second while a slot was being filled.
    pub fill_bytes_per_s: f64,
}

impl FeedSummary {
    /// Whether filling slots, not the device, limited the throughput: a sender that fills all the time leaves streams
    /// waiting.
    pub fn is_limiting(&self) -> bool {
        self.busy_share > STARVED_SHARE
    }
}

/// What the sending thread needs.
pub(super) struct Feed<'a> {
    pub producer: Producer,
    pub load: Load,
    pub feeding: Feeding,
    pub inputs: &'a SampleSet,
    pub clock: Clock,
    /// Whether to ask for the next room before there is something to fill it with.
    pub asks_ahead: bool,
    /// One message per request that may be sent; disconnected at the end.
    pub permits: Receiver<()>,
}

impl Feed<'_> {
    /// Sends requests until the measurement ends, on this thread and on others that help it to copy.
    pub fn run(&self) -> Result<FeedSummary> {
        let filled = match self.feeding {
            Feeding::Copy { threads: threads @ 2.. } => {
                let pool = ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("thalweg-feed-{index}"))
                    .build()
                    .map_err(|error| {
                        Error::io("start", "the copying threads")(std::io::Error::other(error))
                    })?;
                pool.install(|| self.send(Filler::parallel(self.inputs)))?
            }
            Feeding::Copy { .. } => self.send(Filler::serial(self.inputs))?,
            Feeding::Resident => self.send(Filler::resident(self.inputs))?,
        };
        Ok(FeedSummary {
            feeding: self.feeding,
            busy_share: filled.time.as_seconds() / filled.wall.as_seconds().max(f64::MIN_POSITIVE),
            fill_bytes_per_s: filled.bytes as f64 / filled.time.as_seconds().max(f64::MIN_POSITIVE),
        })
    }

    fn send(&self, mut filler: Filler<'_>) -> Result<Filled> {
        let start = self.clock.now();
        let mut filled = Filled::default();
        let mut send_times = self.load.send_times(0);
        let mut first_sample = 0;
        let mut asked = None;
        loop {
            if self.asks_ahead {
                asked = Some(self.producer.request(self.load.samples_per_request));
            }
            let Some(intended) = self.next_send(start, send_times.as_mut()) else { break };
            let request = asked.take();
            let request = request.unwrap_or_else(|| self.producer.request(self.load.samples_per_request));
            let mut reservation = match request.and_then(RoomRequest::wait) {
                // The streams may be gone; what they failed with is on its way to the observer.
                Err(Error::Stopped | Error::NoExecutor { .. }) => break,
                other => other?,
            };
            let began = self.clock.now();
            let in_slot = filler.fill(&mut reservation, first_sample, &mut filled.bytes);
            filled.time += self.clock.now() - began;
            reservation.commit_intended(in_slot as u64, intended);
            first_sample = (first_sample + self.load.samples_per_request) % self.inputs.count();
        }
        filled.wall = self.clock.now() - start;
        Ok(filled)
    }

    /// When the next request is meant to be sent, once that time has come; `None` at the end.
    fn next_send(&self, start: Nanos, times: Option<&mut impl Iterator<Item = Nanos>>) -> Option<Nanos> {
        let Some(times) = times else {
            return self.permits.recv().is_ok().then(|| self.clock.now());
        };
        let due = start + times.next().unwrap_or_default();
        let patience: Duration = (due - self.clock.now()).to_duration();
        let is_over = self.permits.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected);
        (!is_over).then_some(due)
    }
}

#[derive(Default)]
struct Filled {
    time: Nanos,
    wall: Nanos,
    bytes: u64,
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
