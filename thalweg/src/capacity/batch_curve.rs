//! How the time of a stage grows with the batch, through the points that were measured.
//!
//! A stage takes a least time, however small the batch, and a time per sample once the device is full; between
//! the two the larger one rules. The curve is `(latency^q + work(batch)^q)^(1/q)`: `q = 1` adds both up, a larger `q` has
//! a sharper bend. Where a single batch was measured, the useful part of the work grows as the batch does, which is that
//! in which tensor pipes or DRAM are busy, and the rest by less; several batches tell that themselves. What the curve
//! misses at the measured points is interpolated between them, so it goes through every one.

/// Bends that are tried where three or more batches were measured; 1 is a straight line.
const BENDS: [f64; 6] = [1.0, 1.3, 1.7, 2.2, 3.0, 5.0];

/// The bend where fewer were: what ResNet-50 in FP16 on an H100 shows at batches of 1, 8, 32 and 128.
const USUAL_BEND: f64 = 1.7;

/// How the time that kernels hold SMs to no use grows with the batch where a single one was measured: by this
/// power. A larger batch reads weights once all the same and has fewer tiles that are half empty. Of steps from one batch
/// of ResNet-50 and BERT-base (FP16, one to sixteen streams, H200s) to one that is 4 to 16 times as large, 140 of 162 are
/// met within 15 % with it, without a tendency (docs/benchmarks.md, "Prediction from one batch").
pub(crate) const IDLE_GROWTH: f64 = 0.6;

/// Times that rise by less than this from the smallest batch to the largest may not rise at all: with a sharp bend that much
/// noise looks like a device that is an eighth full.
const VISIBLE: f64 = 1.02;

/// Time of one stage over the batch size.
#[derive(Clone, Debug)]
pub(super) struct BatchCurve {
    /// Seconds of the smallest batch imaginable.
    latency: f64,
    work: Work,
    bend: f64,
    /// Logarithms of batch size and of measured over fitted, by rising batch.
    corrections: Vec<(f64, f64)>,
}

/// Seconds for which the samples of one batch keep a full device.
#[derive(Clone, Copy, Debug)]
struct Work {
    seconds: f64,
    batch: f64,
    /// The part of it that grows as the batch does.
    useful: f64,
}

impl Work {
    /// As much for each sample.
    fn even(seconds_per_sample: f64) -> Self {
        Self { seconds: seconds_per_sample, batch: 1.0, useful: 1.0 }
    }

    fn at(&self, batch: f64) -> f64 {
        let times = batch / self.batch;
        self.seconds * (self.useful * times + (1.0 - self.useful) * times.powf(IDLE_GROWTH))
    }
}

impl BatchCurve {
    /// Of kernels, through these batch sizes and seconds, by rising batch and each batch once. A single point does not
    /// tell the two parts apart: then `work_share` of it is work, and of that this part `useful`. `None` without points.
    pub fn of_kernels(points: &[(usize, f64)], work_share: f64, useful: f64) -> Option<Self> {
        let points: Vec<(f64, f64)> = points.iter().map(|(batch, time)| (*batch as f64, *time)).collect();
        let mut curve = match points.as_slice() {
            [] => return None,
            [(batch, time)] => {
                Self::of_one(*batch, *time, work_share.clamp(0.0, 1.0), useful.clamp(0.0, 1.0))
            }
            [_, _] => Self::fitted(&points, USUAL_BEND),
            _ => Self::best_bend(&points),
        };
        let correction = |(batch, time): &(f64, f64)| (batch.ln(), (time / curve.fit(*batch)).ln());
        curve.corrections = points.iter().map(correction).filter(|(_, ratio)| ratio.is_finite()).collect();
        Some(curve)
    }

    /// Of copies, in the same way. Where a single batch was measured, each byte takes as long as it did there.
    pub fn of_copies(points: &[(usize, f64)]) -> Option<Self> {
        Self::of_kernels(points, 1.0, 1.0)
    }

    /// Seconds at this batch size.
    pub fn at(&self, batch_size: usize) -> f64 {
        let batch = batch_size as f64;
        self.fit(batch) * interpolate(&self.corrections, batch.ln()).unwrap_or(0.0).exp()
    }

    /// The part of the time that would remain if the device were full all the time: a lower estimate of how full
    /// it is, since large batches also reuse weights better.
    pub fn work_share(&self, batch_size: usize) -> f64 {
        (self.work.at(batch_size as f64) / self.at(batch_size)).clamp(0.0, 1.0)
    }

    fn of_one(batch: f64, time: f64, work_share: f64, useful: f64) -> Self {
        let bend = USUAL_BEND;
        let latency = time * (1.0 - work_share.powf(bend)).powf(bend.recip());
        let work = Work { seconds: work_share * time, batch, useful };
        Self { latency, work, bend, corrections: Vec::new() }
    }

    fn best_bend(points: &[(f64, f64)]) -> Self {
        let curves = BENDS.map(|bend| Self::fitted(points, bend));
        let error = |curve: &Self| -> f64 {
            points.iter().map(|(batch, time)| (time / curve.fit(*batch)).ln().powi(2)).sum()
        };
        let best = curves.into_iter().min_by(|a, b| error(a).total_cmp(&error(b)));
        best.expect("bug: there is a list of bends")
    }

    /// Least squares of the relative error in `time^q = latency^q + per_sample^q x batch^q`, where neither part
    /// may be negative.
    fn fitted(points: &[(f64, f64)], bend: f64) -> Self {
        // With u = 1 / time^q and v = (batch / time)^q, the equation is 1 = x u + y v.
        let (mut uu, mut uv, mut vv, mut u1, mut v1) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (batch, time) in points {
            let (u, v) = (time.powf(-bend), (batch / time).powf(bend));
            uu += u * u;
            uv += u * v;
            vv += v * v;
            u1 += u;
            v1 += v;
        }
        let determinant = uu * vv - uv * uv;
        let (x, y) = ((u1 * vv - v1 * uv) / determinant, (v1 * uu - u1 * uv) / determinant);
        let (x, y) = match (x > 0.0, y > 0.0) {
            (true, true) => (x, y),
            (false, true) => (0.0, v1 / vv),
            _ => (u1 / uu, 0.0),
        };
        let root = |value: f64| value.powf(bend.recip());
        let curve = Self { latency: root(x), work: Work::even(root(y)), bend, corrections: Vec::new() };
        let largest = points.last().map_or(1.0, |(batch, _)| *batch);
        if curve.fit(largest) < VISIBLE * curve.latency {
            Self { work: Work::even(0.0), ..curve }
        } else {
            curve
        }
    }

    fn fit(&self, batch: f64) -> f64 {
        let (latency, work) = (self.latency.powf(self.bend), self.work.at(batch).powf(self.bend));
        (latency + work).powf(self.bend.recip())
    }
}

/// Linear between points of rising x, constant outside; `None` without points.
pub(super) fn interpolate(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    if x <= first.0 {
        return Some(first.1);
    }
    let between = points.windows(2).find(|pair| x <= pair[1].0);
    Some(between.map_or(last.1, |pair| {
        let share = (x - pair[0].0) / (pair[1].0 - pair[0].0);
        pair[0].1 + share * (pair[1].1 - pair[0].1)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64, tolerance: f64) {
        assert!((got / expected - 1.0).abs() <= tolerance, "{got} is not {expected}");
    }

    #[test]
    fn it_goes_through_every_point() {
        let points = [(1, 0.526), (8, 0.622), (32, 1.2095), (128, 4.009)];
        let curve = BatchCurve::of_kernels(&points, 0.5, 0.5).unwrap();
        points.iter().for_each(|(batch, time)| close(curve.at(*batch), *time, 1e-9));
    }

    #[test]
    fn a_straight_line_is_found_from_three_points_and_continued() {
        let line = |batch: usize| 1.0 + 0.25 * batch as f64;
        let curve = BatchCurve::of_kernels(&[1, 8, 64].map(|batch| (batch, line(batch))), 0.5, 0.5).unwrap();
        for batch in [2, 16, 256] {
            close(curve.at(batch), line(batch), 1e-6);
        }
        close(curve.work_share(12), 0.75, 1e-6);
    }

    #[test]
    fn times_that_hardly_rise_are_no_work() {
        let curve = BatchCurve::of_kernels(&[(1, 2.37), (2, 2.36), (4, 2.375)], 0.5, 0.5).unwrap();
        assert_eq!(curve.work_share(4), 0.0);
        assert!(
            BatchCurve::of_kernels(&[(1, 2.3), (2, 2.36), (4, 2.5)], 0.5, 0.5).unwrap().work_share(4) > 0.05
        );
    }

    #[test]
    fn one_point_is_split_by_the_work_share() {
        let curve = BatchCurve::of_kernels(&[(4, 2.0)], 0.5, 0.5).unwrap();
        close(curve.at(4), 2.0, 1e-12);
        close(curve.work_share(4), 0.5, 1e-12);
        // As the batch where all of it is useful work, by less where none is, and not at all where nothing is work.
        let at_twice =
            |work_share, useful| BatchCurve::of_kernels(&[(4, 2.0)], work_share, useful).unwrap().at(8);
        close(at_twice(1.0, 1.0), 4.0, 1e-12);
        close(at_twice(1.0, 0.0), 2.0 * 2.0_f64.powf(IDLE_GROWTH), 1e-12);
        close(at_twice(0.0, 0.5), 2.0, 1e-12);
    }

    #[test]
    fn copies_take_as_long_for_each_byte_unless_several_batches_say_otherwise() {
        let curve = BatchCurve::of_copies(&[(4, 0.5)]).unwrap();
        close(curve.at(16), 2.0, 1e-12);
        close(curve.at(1), 0.125, 1e-12);
        let curve = BatchCurve::of_copies(&[(1, 0.3), (4, 0.5)]).unwrap();
        assert!(curve.at(16) < 2.0, "each copy takes a while of its own: {}", curve.at(16));
    }

    /// Milliseconds of one stream with a graph of compute, how full it makes the SMs, and the useful part of that
    /// (docs/data/limit-2026-11-29-reserve.json).
    #[test]
    fn larger_batches_follow_from_one_and_its_fill() {
        let resnet = BatchCurve::of_kernels(&[(1, 0.567)], 0.08, 0.4).unwrap();
        close(resnet.at(8), 0.653, 0.05);
        let bert = BatchCurve::of_kernels(&[(1, 0.802)], 0.21, 0.3).unwrap();
        close(bert.at(16), 1.514, 0.2);
        let resnet = BatchCurve::of_kernels(&[(8, 0.653)], 0.38, 0.55).unwrap();
        close(resnet.at(32), 1.12, 0.15);
    }

    #[test]
    fn batches_of_resnet_that_were_left_out_are_met_within_six_per_cent() {
        // Milliseconds on an H100, FP16, one stream with a CUDA graph.
        let curve = BatchCurve::of_kernels(&[(1, 0.526), (8, 0.622), (128, 4.009)], 0.5, 0.5).unwrap();
        close(curve.at(32), 1.2095, 0.06);
        let curve = BatchCurve::of_kernels(&[(1, 0.526), (32, 1.2095), (128, 4.009)], 0.5, 0.5).unwrap();
        close(curve.at(8), 0.622, 0.06);
    }
}
