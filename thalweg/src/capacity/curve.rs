//! Throughput over the number of streams, as predicted.

use serde::{Deserialize, Serialize};

use super::{Bounds, FULL, Prediction, Resource};
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
    /// The first number of streams with which something is full, and what. By the utilisation law a resource is as much
    /// busier as the throughput is higher, so where more streams gain more than a full one has left, its demand was taken
    /// for too large: SMs that always hold work may wait for DRAM half of the time.
    pub fn saturation(&self) -> Option<(usize, Resource)> {
        let least = FULL * self.best();
        let is_full = |point: &&CurvePoint| {
            point.prediction.is_saturated() && point.prediction.throughput.value >= least
        };
        let full = self.points.iter().find(is_full)?;
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
        self.points.first().map(|first| self.best() / first.prediction.throughput.value)
    }

    fn best(&self) -> f64 {
        self.points.iter().map(|point| point.prediction.throughput.value).fold(0.0, f64::max)
    }

    /// `DRAM is full from 3 streams on; at most 1.31 times one stream`.
    pub fn sentence(&self) -> Option<String> {
        let (first, last, gain) = (self.points.first()?, self.points.last()?, three_digits(self.gain()?));
        let one = counted(first.streams);
        Some(match self.saturation() {
            Some((streams, resource)) => {
                let with = resource.with_verb();
                // Of fewer nothing is known: they may fill it as well.
                let from = if streams > 1 && streams == first.streams {
                    format!("with {one} already")
                } else {
                    format!("from {} on", counted(streams))
                };
                format!("{with} full {from}; at most {gain} times {one}")
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
impl Curve {
    /// Through points of streams, inferences per second and how busy DRAM is.
    pub(crate) fn through(points: &[(usize, f64, f64)]) -> Self {
        let point = |&(streams, value, utilisation): &(usize, f64, f64)| {
            let throughput = crate::measure::Estimate { value, lower: value, upper: value };
            let bounds = Bounds { resources: None, busiest: None, streams: value, slots: value };
            let prediction = Prediction {
                throughput,
                latency: crate::units::Nanos(1),
                first_saturating: Resource::Dram,
                utilisation,
                bounds,
                memory: None,
            };
            CurvePoint { streams, prediction }
        };
        Self { batch_size: 1, points: points.iter().map(point).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_what_is_full_and_the_most_to_gain() {
        let full = Curve::through(&[(1, 100.0, 0.7), (2, 125.0, 0.88), (3, 131.0, 0.92), (4, 131.0, 0.92)]);
        assert_eq!(full.sentence().unwrap(), "DRAM is full from 3 streams on; at most 1.31 times one stream");
        let empty = Curve::through(&[(1, 100.0, 0.1), (8, 480.0, 0.48)]);
        assert_eq!(
            empty.sentence().unwrap(),
            "nothing is full up to 8 streams (DRAM is 48 % busy); 4.80 times one stream"
        );
        assert_eq!(Curve::through(&[]).sentence(), None);
        let without_fewer = Curve::through(&[(8, 16_764.0, 1.0), (16, 18_281.0, 1.0)]);
        assert_eq!(
            without_fewer.sentence().unwrap(),
            "DRAM is full with 8 streams already; at most 1.09 times 8 streams"
        );
    }

    #[test]
    fn nothing_is_full_while_more_streams_gain_more_than_it_has_left() {
        // ResNet-50 at batch 32 on a simulated L4, whose SMs hold work all the time with one stream.
        let curve =
            Curve::through(&[(1, 3713.0, 0.98), (2, 4267.0, 1.0), (4, 4560.0, 1.0), (8, 4747.0, 1.0)]);
        assert_eq!(curve.saturation(), Some((4, Resource::Dram)));
        let flat = Curve::through(&[(1, 4350.0, 0.98), (2, 4560.0, 1.0), (4, 4747.0, 1.0)]);
        assert_eq!(flat.saturation(), Some((1, Resource::Dram)));
    }

    #[test]
    fn the_knee_is_where_streams_that_never_wait_would_fill_the_busiest_resource() {
        let mut curve = Curve::through(&[(1, 100.0, 0.4), (2, 190.0, 0.7), (4, 240.0, 0.9), (8, 250.0, 1.0)]);
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
