//! Synthetic devices and measurements with a known truth, for the tests of this module.

use std::collections::BTreeMap;

use super::Slice;
use crate::backend::DeviceSpec;
use crate::measure::Estimate;
use crate::measure::random::Random;
use crate::model::{DataType, Signature, TensorSpec};
use crate::pool::Configuration;

/// Standard deviation of the noise of one slice.
pub const NOISE: f64 = 0.02;

/// A CPU with this many cores.
pub fn cpu(core_count: usize) -> DeviceSpec {
    DeviceSpec {
        backend: "cpu".to_owned(),
        name: "synthetic".to_owned(),
        core_count,
        memory_bytes: None,
        versions: BTreeMap::from([("rten".to_owned(), "0.27".to_owned())]),
    }
}

/// A network with one input and one output and this largest batch.
pub fn signature(largest_batch: usize) -> Signature {
    let tensor = |name: &str| TensorSpec {
        name: name.to_owned(),
        data_type: DataType::F32,
        shape: vec![4],
        is_batched: true,
    };
    Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")], batch_sizes: 1..=largest_batch }
}

/// A slice with this throughput and 20 requests of 1 ms.
pub fn slice(throughput: f64) -> Slice {
    Slice {
        throughput_inferences_per_s: Estimate {
            value: throughput,
            lower: 0.97 * throughput,
            upper: 1.03 * throughput,
        },
        latencies_ns: vec![(1_000_000, 20)],
        over_limit: 0,
        memory_bytes: None,
        failure: None,
    }
}

/// True speeds of candidates, which nobody measures exactly.
pub struct Truth {
    /// Inferences per second.
    pub speeds: Vec<f64>,
}

impl Truth {
    /// Speeds that fall slowly and then fast from 100: several are nearly as good as the best.
    pub fn plateau(count: usize) -> Self {
        let fraction = |index: usize| (index * 7 % count) as f64 / count as f64;
        Self { speeds: (0..count).map(|index| 100.0 * (1.0 - 0.7 * fraction(index).powf(1.5))).collect() }
    }

    /// One clear winner, the next one 15 % behind.
    pub fn steep(count: usize) -> Self {
        let speed = |index| if index == count / 3 { 100.0 } else { 85.0 - index as f64 };
        Self { speeds: (0..count).map(speed).collect() }
    }

    pub fn best(&self) -> f64 {
        self.speeds.iter().copied().fold(0.0, f64::max)
    }

    pub fn configurations(&self) -> Vec<Configuration> {
        (1..=self.speeds.len())
            .map(|batch_size| Configuration { batch_size, ..Configuration::default() })
            .collect()
    }

    /// A reading at a time: the machine slowly swings by 10 % and every reading has noise.
    pub fn reading(&self, candidate: usize, time: usize, random: &mut Random) -> f64 {
        let drift = 1.0 + 0.05 * (time as f64 / 40.0).sin();
        self.speeds[candidate] * drift * (NOISE * normal(random)).exp()
    }
}

/// Standard normal, by Box and Muller.
pub fn normal(random: &mut Random) -> f64 {
    (2.0 * random.exponential(1.0)).sqrt() * (std::f64::consts::TAU * random.unit()).cos()
}
