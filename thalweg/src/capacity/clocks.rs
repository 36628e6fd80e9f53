//! How far the SM clock falls when the device is busy, and what that costs.
//!
//! In: observations whose counters say how busy the SMs were, at which clock, and whether power held it back. Out:
//! the clock for any activity. Power above what a device draws that is awake is activity x clock x voltage squared, and
//! near the limit the voltage falls about half as fast as the clock, so `activity x clock^2` is the same wherever the
//! limit holds the clock back: the *allowance*, which is the activity that the device bears at its highest clock.

use super::Observation;

/// How power above idle grows with the clock at the same activity.
const POWER_EXPONENT: f64 = 2.0;

/// Power at the highest clock with hardly anything to do, as a part of the limit: a line through what an H200 of 700 W
/// draws at activities of 0.08 to 0.6 (153 to 270 W) starts at 130 W. An idle one lowers its clocks and draws 70 W.
const AWAKE_POWER: f64 = 0.185;

/// A clock within this part of the highest one is not held back.
const FULL_CLOCK: f64 = 0.995;

/// The lowest part of the highest clock that is worth modelling.
const LEAST_CLOCK: f64 = 0.2;

/// What is known of the clock under load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// The activity that the device bears at its highest clock; `None` where nothing tells.
    allowance: Option<f64>,
}

impl Clocks {
    /// From the observations that power held back, or else from the power that the others drew.
    pub fn of(observations: &[&Observation]) -> Self {
        let mut allowances: Vec<f64> = observations.iter().filter_map(|it| allowance_seen(it)).collect();
        allowances.sort_unstable_by(f64::total_cmp);
        let seen = allowances.get(allowances.len() / 2).copied();
        Self { allowance: seen.or_else(|| allowance_from_power(observations)) }
    }

    /// The clock at this activity of the SMs, 1 being the highest.
    pub fn at(&self, activity: f64) -> f64 {
        let Some(allowance) = self.allowance.filter(|allowance| activity > *allowance) else { return 1.0 };
        (allowance / activity.min(1.0)).powf(POWER_EXPONENT.recip()).clamp(LEAST_CLOCK, 1.0)
    }
}

/// The allowance that an observation shows which power held back.
fn allowance_seen(observation: &Observation) -> Option<f64> {
    let counters = observation.counters.as_ref().filter(|it| !it.throttle_reasons.is_empty())?;
    let clock = clock(observation);
    (clock < FULL_CLOCK).then_some(counters.sm_activity? * clock.powf(POWER_EXPONENT))
}

/// The activity at which power would reach the limit, on a line through what was drawn at known activities and
/// what a device usually draws that hardly has anything to do.
fn allowance_from_power(observations: &[&Observation]) -> Option<f64> {
    let limit = observations.iter().find_map(|it| it.power_limit_watts)?;
    let drawn = |observation: &&Observation| {
        let counters = observation.counters.as_ref()?;
        Some((counters.sm_activity?, counters.power_watts? - AWAKE_POWER * limit))
    };
    let points: Vec<(f64, f64)> = observations.iter().filter_map(drawn).collect();
    let products: f64 = points.iter().map(|(activity, watts)| activity * watts).sum();
    let squares: f64 = points.iter().map(|(activity, _)| activity * activity).sum();
    let watts_when_full = products / squares;
    (watts_when_full > 0.0).then(|| (1.0 - AWAKE_POWER) * limit / watts_when_full)
}

/// The clock of an observation over the highest one; 1 where that is not known.
pub(super) fn clock(observation: &Observation) -> f64 {
    let clocks = observation.counters.as_ref().and_then(|it| it.sm_clock_mhz.zip(it.sm_clock_max_mhz));
    clocks.map_or(1.0, |(now, most)| (now / most).clamp(LEAST_CLOCK, 1.0))
}

/// How many times longer kernels take at this clock, where DRAM, which keeps its own clock, is full for this part
/// of their time.
pub(super) fn stretch(clock: f64, dram: f64) -> f64 {
    1.0 + (1.0 - dram.clamp(0.0, 1.0)) * (clock.recip() - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Counters;
    use crate::capacity::synthetic::{alone, with_counters};

    fn held_back(activity: f64, mhz: f64) -> Observation {
        let counters = Counters {
            sm_activity: Some(activity),
            sm_clock_mhz: Some(mhz),
            sm_clock_max_mhz: Some(2000.0),
            throttle_reasons: vec!["power limit".to_owned()],
            ..Counters::default()
        };
        with_counters(alone(1, 100.0), counters)
    }

    #[test]
    fn a_busier_device_runs_slower_where_power_limits_it() {
        let observation = held_back(0.8, 1500.0);
        let clocks = Clocks::of(&[&observation]);
        assert!((clocks.at(0.8) - 0.75).abs() < 1e-12);
        assert_eq!(clocks.at(0.45), 1.0);
        assert!((clocks.at(1.0) - 0.75 * 0.8f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_clock_that_was_never_held_back_stays_at_its_highest() {
        assert_eq!(Clocks::of(&[&alone(1, 100.0)]).at(1.0), 1.0);
        assert_eq!(Clocks::of(&[&held_back(0.5, 1999.0)]).at(1.0), 1.0);
    }

    #[test]
    fn the_power_drawn_tells_where_the_limit_is_before_it_is_reached() {
        let counters =
            Counters { sm_activity: Some(0.2), power_watts: Some(100.0 + 150.0), ..Counters::default() };
        let one = Observation {
            power_limit_watts: Some(100.0 / AWAKE_POWER),
            ..with_counters(alone(1, 100.0), counters)
        };
        // A full device would draw 750 W more than one with nothing to do, and 440.5 W more are allowed.
        let clocks = Clocks::of(&[&one]);
        let allowance = (100.0 / AWAKE_POWER - 100.0) / 750.0;
        assert_eq!(clocks.at(0.9 * allowance), 1.0);
        assert!((clocks.at(1.0) - allowance.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn kernels_that_wait_for_dram_do_not_mind_the_clock() {
        assert_eq!((stretch(0.5, 0.0), stretch(0.5, 1.0), stretch(0.5, 0.5)), (2.0, 1.0, 1.5));
    }
}
