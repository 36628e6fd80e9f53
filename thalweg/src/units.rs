//! Quantities with their unit in the type: [`Nanos`], [`Bytes`], and the [`Clock`] that makes `Nanos`.
//!
//! Inside the library a duration or a size is never a bare number. At a border (JSON, CSV, command
//! line) the unit is the suffix of the name instead, for example `p99_ms`.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time or a span, in nanoseconds. Points count from the start of their [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The start of every clock.
    pub const ZERO: Self = Self(0);

    /// From a [`Duration`]; saturates after 584 years.
    pub fn from_duration(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// From a number of seconds; negative numbers and NaN become zero.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float-to-integer casts saturate, which is what the documentation promises"
    )]
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * 1e9) as u64)
    }

    /// As a [`Duration`].
    pub const fn to_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// In seconds.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// In milliseconds.
    pub fn as_millis(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// In microseconds.
    pub fn as_micros(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// `self - earlier`, or zero where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.since(other)
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::ZERO, Add::add)
    }
}

/// `1.53 ms`: three significant digits in the unit that fits.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            0..1_000 => (self.0 as f64, "ns"),
            1_000..1_000_000 => (self.as_micros(), "us"),
            1_000_000..1_000_000_000 => (self.as_millis(), "ms"),
            _ => (self.as_seconds(), "s"),
        };
        write!(f, "{} {unit}", three_digits(value))
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), Add::add)
    }
}

/// `25.6 MB`: powers of ten, three significant digits.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        let (value, unit) = match self.0 {
            0..1_000 => return write!(f, "{} B", self.0),
            1_000..1_000_000 => (bytes / 1e3, "kB"),
            1_000_000..1_000_000_000 => (bytes / 1e6, "MB"),
            _ => (bytes / 1e9, "GB"),
        };
        write!(f, "{} {unit}", three_digits(value))
    }
}

/// A start of time. Every [`Nanos`] point of one run comes from one clock, so they can be compared.
///
/// It shows the world's time, or the time of a simulation that somebody moves by hand (see [`VirtualClock`]).
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    World { start: Instant, unix_start: Nanos },
    Virtual(VirtualClock),
}

/// Readings of both clocks at a start, some hundred nanoseconds each.
const READINGS: usize = 5;

impl Clock {
    /// A clock that starts now and shows the world's time.
    pub fn start() -> Self {
        let reading = |_| {
            let start = Instant::now();
            let unix = SystemTime::now();
            (start.elapsed(), start, unix)
        };
        // A thread that is interrupted in between shows one clock late, so the readings closest together count.
        let tightest = (0..READINGS).map(reading).min_by_key(|(width, ..)| *width);
        let (width, start, unix) = tightest.expect("bug: there is more than one reading");
        let unix = unix.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(width / 2);
        Self(Source::World { start, unix_start: Nanos::from_duration(unix) })
    }

    /// The time since the clock started.
    pub fn now(&self) -> Nanos {
        match &self.0 {
            Source::World { start, .. } => Nanos::from_duration(start.elapsed()),
            Source::Virtual(clock) => clock.now(),
        }
    }

    /// What the clock showed at some moment of the world's time; now, where its time is virtual.
    pub fn at(&self, moment: Instant) -> Nanos {
        match &self.0 {
            Source::World { start, .. } => Nanos::from_duration(moment.saturating_duration_since(*start)),
            Source::Virtual(clock) => clock.now(),
        }
    }

    /// The hands of this clock, where its time is virtual.
    pub fn virtual_clock(&self) -> Option<&VirtualClock> {
        match &self.0 {
            Source::World { .. } => None,
            Source::Virtual(clock) => Some(clock),
        }
    }

    /// Nanoseconds since 1970 when it started; `None` where its time is virtual.
    pub fn unix_start(&self) -> Option<Nanos> {
        match &self.0 {
            Source::World { unix_start, .. } => Some(*unix_start),
            Source::Virtual(_) => None,
        }
    }
}

/// A time that stands still until it is moved. All clones show the same time.
///
/// One thread moves it and everything that it times runs on that thread, so `Relaxed` is enough.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    /// The time it shows.
    pub fn now(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }

    /// Makes it show this time.
    pub fn set(&self, now: Nanos) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Lets some time pass.
    pub fn advance(&self, by: Nanos) {
        self.set(self.now() + by);
    }

    /// It, for whoever only reads the time.
    pub fn clock(&self) -> Clock {
        Clock(Source::Virtual(self.clone()))
    }
}

/// Digits of a whole number in groups of three: `5,120`.
pub(crate) fn grouped(digits: &str) -> String {
    let first = usize::from(digits.starts_with('-'));
    let mut grouped = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.char_indices() {
        if index > first && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number with three significant digits, without trailing decimals from 100 on.
pub(crate) fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 999.5 => return grouped(&format!("{value:.0}")),
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_three_digits_in_the_unit_that_fits() {
        assert_eq!(Nanos(999).to_string(), "999 ns");
        assert_eq!(Nanos(1_530_000).to_string(), "1.53 ms");
        assert_eq!(Nanos(25_040_000_000).to_string(), "25.0 s");
        assert_eq!(Bytes(602_112).to_string(), "602 kB");
        assert_eq!(Bytes(25_557_032).to_string(), "25.6 MB");
    }

    #[test]
    fn subtraction_stops_at_zero() {
        assert_eq!(Nanos(3) - Nanos(5), Nanos::ZERO);
    }

    #[test]
    fn seconds_that_make_no_sense_become_zero() {
        assert_eq!(Nanos::from_seconds(-1.0), Nanos::ZERO);
        assert_eq!(Nanos::from_seconds(f64::NAN), Nanos::ZERO);
    }
}
