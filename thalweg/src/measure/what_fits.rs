//! Measuring with as many of the streams as the device has memory for.

use super::{Load, Measurement, Pacing, StopSignal, Workload};
use crate::error::{Error, Result};
use crate::pool::Configuration;

/// Measures a configuration; where the device lacks the memory, with the most streams that fit. The measurement then
/// has the configuration that ran, and says so in its remarks. `load` gives the load for each configuration.
///
/// # Errors
/// As [`Experiment::run`](super::Experiment::run); [`Error::DoesNotFit`] where not even one stream fits.
pub fn measure_what_fits(
    workload: &Workload,
    wanted: Configuration,
    load: &dyn Fn(&Configuration) -> Load,
    pacing: Pacing,
    stop: &StopSignal,
) -> Result<Measurement> {
    let mut configuration = wanted;
    let mut remark = None;
    loop {
        match workload.experiment(configuration, load(&configuration), pacing).run(stop) {
            // What is free changes, so what was said to fit may not. Each turn has fewer streams than the one before.
            Err(Error::DoesNotFit { fits, room, reason, .. })
                if (1..configuration.streams).contains(&fits) =>
            {
                configuration = narrowed(&configuration, fits);
                remark = Some(format!(
                    "Of {} streams {fits} fit into {room} and were run: {reason}.",
                    wanted.streams
                ));
            }
            Ok(mut measurement) => {
                measurement.remarks.splice(0..0, remark);
                return Ok(measurement);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The same with fewer streams, and no more submitters and copy lanes than those.
pub(crate) fn narrowed(configuration: &Configuration, streams: usize) -> Configuration {
    let submitters = configuration.submitters.min(streams);
    let copy_lanes = configuration.copy_lanes.map(|lanes| lanes.min(streams));
    Configuration { streams, submitters, copy_lanes, ..*configuration }
}
