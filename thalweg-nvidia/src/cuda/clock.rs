//! Event times on the host's clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cuda::{CudaContext, Event, EventTiming, EventWait, Stream, StreamPriority};
use crate::error::Result;

/// How often the two clocks are compared for one reading; the quickest counts. One alone may be interrupted.
const ATTEMPT_COUNT: usize = 5;

/// From this age on a reading is stale. The driver gives times as 32-bit milliseconds: after 4 s their step
/// reaches the half microsecond that events resolve anyway. And clocks drift apart: 50 ppm, which is usual for
/// crystals, are 0.2 ms in that time.
const STALE_AFTER: Duration = Duration::from_secs(4);

/// Puts events on the host's clock.
///
/// An event on an idle stream is recorded and waited for. It was reached between these two calls, so its place on
/// the host's clock is known to half the time between them, some ten microseconds: [`uncertainty`](Self::uncertainty).
/// Differences between events are as exact as the device's own clock, so only the offset is uncertain.
pub struct EventClock {
    stream: Stream,
    reading: Reading,
}

/// One moment on both clocks.
struct Reading {
    event: Event,
    host: Instant,
    uncertainty: Duration,
}

impl EventClock {
    /// Compares the clocks for the first time.
    ///
    /// # Errors
    /// Where the driver refuses.
    pub fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let stream = Stream::new(context, StreamPriority::Highest)?;
        let reading = Reading::best(&stream)?;
        Ok(Self { stream, reading })
    }

    /// Compares the clocks again. Takes some ten microseconds per attempt, while the device runs on.
    ///
    /// # Errors
    /// Where the driver refuses; the clock is then as it was.
    pub fn renew(&mut self) -> Result<()> {
        self.reading = Reading::best(&self.stream)?;
        Ok(())
    }

    /// Whether it should be renewed before more events are read.
    pub fn is_stale(&self) -> bool {
        self.reading.host.elapsed() > STALE_AFTER
    }

    /// How far [`host_time`](Self::host_time) may be off, apart from the drift since the last reading.
    pub fn uncertainty(&self) -> Duration {
        self.reading.uncertainty
    }

    /// When a complete event was reached.
    ///
    /// # Errors
    /// As [`Event::elapsed_ms`].
    pub fn host_time(&self, event: &Event) -> Result<Instant> {
        Ok(shifted(self.reading.host, event.elapsed_ms(&self.reading.event)?))
    }
}

impl Reading {
    /// The quickest of some attempts.
    fn best(stream: &Stream) -> Result<Self> {
        let mut best = Self::take(stream)?;
        for _ in 1..ATTEMPT_COUNT {
            let reading = Self::take(stream)?;
            if reading.uncertainty < best.uncertainty {
                best = reading;
            }
        }
        Ok(best)
    }

    fn take(stream: &Stream) -> Result<Self> {
        let event = Event::new(stream.context(), EventTiming::On, EventWait::AsContext)?;
        let before = Instant::now();
        event.record(stream)?;
        event.wait()?;
        let uncertainty = before.elapsed() / 2;
        Ok(Self { event, host: before + uncertainty, uncertainty })
    }
}

/// Later by so many milliseconds, or earlier where they are negative.
pub(crate) fn shifted(time: Instant, milliseconds: f32) -> Instant {
    let distance = Duration::try_from_secs_f64(f64::from(milliseconds.abs()) / 1e3).unwrap_or_default();
    let shifted = if milliseconds < 0.0 { time.checked_sub(distance) } else { time.checked_add(distance) };
    shifted.unwrap_or(time)
}
