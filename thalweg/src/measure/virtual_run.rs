//! A measurement in virtual time: sending, waiting and reading in one event loop on one thread.
//!
//! The same load, the same pool and the same observation as in the world's time; samples lie ready and filling
//! them takes no time. Each request asks for room, also where a real measurement would keep the slot.

use std::collections::VecDeque;
use std::sync::Arc;

use super::host_use::HostUse;
use super::observation::{Observation, Situation};
use super::{Experiment, FeedSummary, Measurement, SampleSet, StopSignal};
use crate::error::{Error, Result};
use crate::pool::{RoomRequest, VirtualPool};
use crate::units::Nanos;

/// See [`Experiment::run`].
pub(super) fn run(experiment: &Experiment<'_>, stop: &StopSignal) -> Result<Measurement> {
    let engine = Arc::clone(&experiment.workload.engine);
    let mut pool = VirtualPool::start(engine, &experiment.configuration)?;
    let mut observation =
        Observation::new(experiment, pool.clock(), experiment.observer(pool.take_observer()));
    let mut sender = Sender::new(experiment, observation.outstanding());
    while !observation.is_complete() && !stop.is_requested() {
        let is_busy = sender.act(&pool)? | read(&pool, &mut observation, &mut sender)?;
        if !is_busy {
            pool.step(sender.next_send())?;
        }
    }
    observation.end(situation(&pool));
    let feed = sender.feed(experiment, pool.clock().now());
    pool.stop();
    // Room that nobody fills any more would keep the slot from running that it is in.
    sender.asked.clear();
    while sender.unanswered > 0 {
        match pool.try_response() {
            Some(_) => sender.unanswered -= 1,
            None => pool.step(None)?,
        }
    }
    Ok(Measurement { feed, ..observation.summarise(experiment)? })
}

/// How the pool is supplied, and what submitters would have taken of a host.
fn situation(pool: &VirtualPool) -> Situation {
    Situation { host: HostUse { cpu: pool.busy_time(), context_switches: None }, pool: pool.state() }
}

/// Takes in every response that is there; whether there was one.
fn read(pool: &VirtualPool, observation: &mut Observation<'_>, sender: &mut Sender<'_>) -> Result<bool> {
    let mut is_busy = false;
    while let Some(response) = pool.try_response() {
        observation.take(&response, &|| situation(pool))?;
        sender.answered(pool.clock().now());
        observation.note_clock();
        is_busy = true;
    }
    Ok(is_busy)
}

/// The sending thread's part. Like that thread it asks at once for as many requests as a slot has room for.
struct Sender<'a> {
    samples: &'a SampleSet,
    samples_per_request: usize,
    first_sample: usize,
    pace: Pace,
    /// Requests that have no room yet, and when each was meant to be sent; the longest first.
    asked: VecDeque<(RoomRequest, Nanos)>,
    /// How many there may be.
    most_asked: usize,
    /// Requests that were committed and not answered.
    unanswered: usize,
    /// What a planted fault lets each request take before it is sent.
    preparation: Nanos,
    /// When the request that is being prepared is ready.
    ready: Nanos,
    /// Requests that were sent.
    sent: u64,
}

enum Pace {
    /// These may be sent, each since then; an answer allows one more.
    Closed { permits: VecDeque<Nanos> },
    /// At these times.
    Open { next: Nanos, later: Box<dyn Iterator<Item = Nanos>> },
}

impl<'a> Sender<'a> {
    fn new(experiment: &Experiment<'a>, outstanding: Option<usize>) -> Self {
        let pace = match (outstanding, experiment.load.send_times(experiment.workload.seed)) {
            (None, Some(mut later)) => {
                Pace::Open { next: later.next().unwrap_or_default(), later: Box::new(later) }
            }
            (permits, _) => {
                Pace::Closed { permits: std::iter::repeat_n(Nanos::ZERO, permits.unwrap_or(1)).collect() }
            }
        };
        let preparation = experiment.preparation();
        let most_asked = experiment.requests_at_once();
        Self {
            samples: &experiment.workload.inputs,
            samples_per_request: experiment.load.samples_per_request,
            first_sample: 0,
            pace,
            asked: VecDeque::with_capacity(most_asked),
            most_asked,
            unanswered: 0,
            preparation,
            ready: preparation,
            sent: 0,
        }
    }

    /// When the next request is due, where that is known.
    fn next_send(&self) -> Option<Nanos> {
        match &self.pace {
            _ if self.asked.len() == self.most_asked => None,
            Pace::Open { next, .. } => Some((*next).max(self.ready)),
            Pace::Closed { permits } if !permits.is_empty() && self.preparation > Nanos::ZERO => {
                Some(self.ready)
            }
            Pace::Closed { .. } => None,
        }
    }

    /// What the preparing took; `None` where nobody prepared anything, since filling takes no time here.
    fn feed(&self, experiment: &Experiment<'_>, now: Nanos) -> Option<FeedSummary> {
        let prepared = self.preparation.as_seconds() * self.sent as f64;
        let request_bytes = self.samples.byte_count() * self.samples_per_request;
        (prepared > 0.0).then(|| FeedSummary {
            feeding: experiment.feeding,
            busy_share: (prepared / now.as_seconds()).min(1.0),
            senders: 1,
            fill_bytes_per_s: self.sent as f64 * request_bytes as f64 / prepared,
            preparing_share: 1.0,
        })
    }

    fn answered(&mut self, now: Nanos) {
        self.unanswered -= 1;
        if let Pace::Closed { permits } = &mut self.pace {
            permits.push_back(now);
        }
    }

    /// Sends what is due and may be sent; whether there was something.
    fn act(&mut self, pool: &VirtualPool) -> Result<bool> {
        let now = pool.clock().now();
        let mut is_busy = false;
        while self.asked.len() < self.most_asked
            && self.ready <= now
            && let Some(intended) = self.due(now)
        {
            self.asked.push_back((pool.request(self.samples_per_request)?, intended));
            is_busy = true;
        }
        let Some((request, intended)) = self.asked.front() else { return Ok(is_busy) };
        let Some(granted) = request.try_take() else { return Ok(is_busy) };
        let intended = *intended;
        self.asked.pop_front();
        let mut reservation = match granted {
            // The streams are gone; what they failed with is on its way.
            Err(Error::Stopped | Error::NoExecutor { .. }) => return Ok(is_busy),
            other => other?,
        };
        self.samples.fill(&mut reservation, self.first_sample);
        reservation.commit_intended(self.first_sample as u64, intended);
        self.first_sample = (self.first_sample + self.samples_per_request) % self.samples.count();
        self.unanswered += 1;
        self.sent += 1;
        self.ready = now + self.preparation;
        Ok(true)
    }

    /// When the request that is to be sent now was meant to be sent.
    fn due(&mut self, now: Nanos) -> Option<Nanos> {
        match &mut self.pace {
            Pace::Closed { permits } => permits.pop_front(),
            Pace::Open { next, later } if *next <= now => {
                Some(std::mem::replace(next, later.next().unwrap_or(Nanos(u64::MAX))))
            }
            Pace::Open { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
