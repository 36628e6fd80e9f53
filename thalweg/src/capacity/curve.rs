//! Throughput over the number of streams, as predicted.

use serde::{Deserialize, Serialize};

use super::{Bounds, Prediction, Resource};
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

    /// The first number of streams that would keep the busiest resource at work all the time if no execution waited for
    /// another: where the two bounds cross that hold for few streams and for many (N* in Lazowska et al., chapter 5).
    /// Beyond it more streams wait rather than work.
    pub fn knee(&self) -> Option<usize> {
        let is_beyond = |bounds: &Bounds| bounds.resources.is_some_and(|most| bounds.streams >= most);
        self.points.iter().find(|point| is_beyond(&point.prediction.bounds)).map(|point| point.streams)
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

    #[test]
    fn the_knee_is_where_streams_that_never_wait_would_fill_the_busiest_resource() {
        let mut curve = curve(&[(1, 100.0, 0.4), (2, 190.0, 0.7), (4, 240.0, 0.9), (8, 250.0, 1.0)]);
        assert_eq!(curve.knee(), None, "no resource's demand is known");
        let mut with_resources = |most| {
            for point in &mut curve.points {
                point.prediction.bounds.streams = 100.0 * point.streams as f64;
                point.prediction.bounds.resources = Some(most);
            }
            curve.knee()
        };
        assert_eq!(with_resources(250.0), Some(4));
        assert_eq!(with_resources(200.0), Some(2));
        assert_eq!(with_resources(900.0), None, "eight are too few");
    }
}
