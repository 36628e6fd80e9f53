//! Throughput over the number of streams, as predicted.

use serde::{Deserialize, Serialize};

use super::{Prediction, Resource};
use crate::units::three_digits;

/// Predictions for one configuration with several numbers of streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The batch size of all points.
    pub batch_size: usize,
    /// The points, by rising number of streams.
    pub points: Vec<CurvePoint>,
}

/// One point of a [`Curve`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Number of streams.
    pub streams: usize,
    /// What they will reach.
    pub prediction: Prediction,
}

impl Curve {
    /// The first number of streams with which something is full, and what.
    pub fn saturation(&self) -> Option<(usize, Resource)> {
        let full = self.points.iter().find(|point| point.prediction.is_saturated())?;
        Some((full.streams, full.prediction.first_saturating))
    }

    /// The highest point over the first one.
    pub fn gain(&self) -> Option<f64> {
        let throughput = |point: &CurvePoint| point.prediction.throughput.value;
        let best = self.points.iter().map(throughput).fold(0.0, f64::max);
        self.points.first().map(|first| best / throughput(first))
    }

    /// `DRAM is full from 3 streams on; at most 1.31 times one stream`.
    pub fn sentence(&self) -> Option<String> {
        let (first, last, gain) = (self.points.first()?, self.points.last()?, three_digits(self.gain()?));
        let one = counted(first.streams);
        Some(match self.saturation() {
            Some((streams, resource)) => {
                let with = resource.with_verb();
                format!("{with} full from {} on; at most {gain} times {one}", counted(streams))
            }
            None => {
                let resource = last.prediction.first_saturating.with_verb();
                let busy = 100.0 * last.prediction.utilisation;
                let streams = counted(last.streams);
                format!("nothing is full up to {streams} ({resource} {busy:.0} % busy); {gain} times {one}")
            }
        })
    }
}

fn counted(streams: usize) -> String {
    if streams == 1 { "one stream".to_owned() } else { format!("{streams} streams") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::Bounds;
    use crate::measure::Estimate;
    use crate::units::Nanos;

    fn curve(points: &[(usize, f64, f64)]) -> Curve {
        let point = |&(streams, value, utilisation): &(usize, f64, f64)| {
            let throughput = Estimate { value, lower: value, upper: value };
            let bounds = Bounds { resources: None, busiest: None, streams: value, slots: value };
            let prediction = Prediction {
                throughput,
                latency: Nanos(1),
                first_saturating: Resource::Dram,
                utilisation,
                bounds,
                memory: None,
            };
            CurvePoint { streams, prediction }
        };
        Curve { batch_size: 1, points: points.iter().map(point).collect() }
    }

    #[test]
    fn the_sentence_names_what_is_full_and_the_most_to_gain() {
        let full = curve(&[(1, 100.0, 0.7), (2, 125.0, 0.88), (3, 131.0, 0.92), (4, 131.0, 0.92)]);
        assert_eq!(full.sentence().unwrap(), "DRAM is full from 3 streams on; at most 1.31 times one stream");
        let empty = curve(&[(1, 100.0, 0.1), (8, 480.0, 0.48)]);
        assert_eq!(
            empty.sentence().unwrap(),
            "nothing is full up to 8 streams (DRAM is 48 % busy); 4.80 times one stream"
        );
        assert_eq!(curve(&[]).sentence(), None);
    }
}
