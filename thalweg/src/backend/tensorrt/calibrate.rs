//! Samples for the ranges of INT8, batch by batch on the device.

use std::sync::{Arc, Mutex, PoisonError};

use thalweg_nvidia::cuda::{CudaContext, DeviceBuffer, Stream, StreamPriority};
use thalweg_nvidia::tensorrt::{self, CalibrationBatches, Network};

use crate::backend::Calibration;
use crate::error::{Error, Result};
use crate::model::{DataType, Signature};

/// Samples of one batch of calibration, where the engine runs so many. The ranges hardly depend on it; more take
/// more memory of the device.
const CALIBRATION_BATCH: usize = 32;

/// How many samples are calibrated with at a time.
pub(super) fn batch_size(signature: &Signature, calibration: &Calibration) -> usize {
    let (least, most) = (*signature.batch_sizes.start(), *signature.batch_sizes.end());
    calibration.count().min(CALIBRATION_BATCH).clamp(least, most)
}

/// Why calibration ended early: TensorRT only hears that there are no more batches.
#[derive(Clone, Default)]
pub(super) struct CalibrationProblem(Arc<Mutex<Option<Error>>>);

impl CalibrationProblem {
    pub fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Hands every sample over once; the last batch is filled up from the front.
pub(super) struct SampleBatches {
    stream: Stream,
    calibration: Calibration,
    inputs: Vec<Input>,
    batch_size: usize,
    /// The next sample.
    next: usize,
    problem: CalibrationProblem,
}

struct Input {
    name: String,
    is_batched: bool,
    /// Whether 64-bit integers of the model are 32-bit ones in the network, as in TensorRT 8.
    is_narrowed: bool,
}

impl SampleBatches {
    /// Batches for this network, which was parsed from a model of `signature`.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] where an input has no samples.
    pub fn new(
        context: &Arc<CudaContext>,
        calibration: &Calibration,
        signature: &Signature,
        network: &Network,
    ) -> Result<Self> {
        let mut inputs = Vec::new();
        for input in network.inputs()? {
            let declared = &signature.inputs[signature.input_index(&input.name)?];
            if calibration.sample(&input.name, 0).is_none_or(|sample| sample.len() != declared.byte_count()) {
                return Err(Error::ShapeMismatch {
                    tensor: input.name.clone(),
                    expected: format!("{} bytes in each calibration sample", declared.byte_count()),
                    got: calibration
                        .sample(&input.name, 0)
                        .map_or_else(|| "none".to_owned(), |sample| format!("{} bytes", sample.len())),
                });
            }
            let is_narrowed =
                declared.data_type == DataType::I64 && input.data_type == tensorrt::DataType::Int32;
            inputs.push(Input { name: input.name, is_batched: declared.is_batched, is_narrowed });
        }
        Ok(Self {
            stream: Stream::new(context, StreamPriority::default())?,
            batch_size: batch_size(signature, calibration),
            calibration: calibration.clone(),
            inputs,
            next: 0,
            problem: CalibrationProblem::default(),
        })
    }

    /// Where it says why it ended early.
    pub fn problem(&self) -> CalibrationProblem {
        self.problem.clone()
    }

    fn upload(&self, name: &str) -> Result<Arc<DeviceBuffer>> {
        let input = self.inputs.iter().find(|input| input.name == name);
        let input =
            input.ok_or_else(|| Error::Bug(format!("calibration asks for {name}, which is no input")))?;
        let bytes = self.bytes(input);
        let buffer = DeviceBuffer::new(self.stream.context(), bytes.len())?;
        self.stream.upload(&bytes, &buffer)?;
        Ok(Arc::new(buffer))
    }

    fn bytes(&self, input: &Input) -> Vec<u8> {
        let count = if input.is_batched { self.batch_size } else { 1 };
        let samples = (self.next..self.next + count)
            .flat_map(|sample| self.calibration.sample(&input.name, sample).unwrap_or_default());
        let bytes: Vec<u8> = samples.copied().collect();
        if input.is_narrowed { narrowed(&bytes) } else { bytes }
    }
}

/// 64-bit integers as 32-bit ones. Those that do not fit become the largest or smallest, as TensorRT makes of weights.
fn narrowed(bytes: &[u8]) -> Vec<u8> {
    let narrow = |wide: &[u8; 8]| {
        let wide = i64::from_le_bytes(*wide);
        let bound = if wide < 0 { i32::MIN } else { i32::MAX };
        i32::try_from(wide).unwrap_or(bound).to_le_bytes()
    };
    bytes.as_chunks::<8>().0.iter().flat_map(narrow).collect()
}

impl CalibrationBatches for SampleBatches {
    fn next_batch(&mut self, inputs: &[&str]) -> Option<Vec<Arc<DeviceBuffer>>> {
        if self.next >= self.calibration.count() {
            return None;
        }
        let buffers: Result<Vec<_>> = inputs.iter().map(|name| self.upload(name)).collect();
        self.next += self.batch_size;
        match buffers {
            Ok(buffers) => Some(buffers),
            Err(error) => {
                *self.problem.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::TensorSpec;

    #[test]
    fn integers_that_do_not_fit_are_cut_to_the_bounds() {
        let wide: Vec<u8> = [1_i64, -7, i64::MAX, i64::MIN].iter().flat_map(|it| it.to_le_bytes()).collect();
        let narrow: Vec<u8> =
            [1_i32, -7, i32::MAX, i32::MIN].iter().flat_map(|it| it.to_le_bytes()).collect();
        assert_eq!(narrowed(&wide), narrow);
    }

    #[test]
    fn batches_are_as_large_as_samples_and_engine_allow() {
        let tensor =
            TensorSpec { name: "x".into(), data_type: DataType::U8, shape: vec![1], is_batched: true };
        let signature =
            |batch_sizes| Signature { inputs: vec![tensor.clone()], outputs: vec![], batch_sizes };
        let samples = |count: usize| Calibration::new(count, vec![("x".into(), Bytes::from(vec![0; count]))]);
        assert_eq!(batch_size(&signature(1..=8), &samples(5)), 5);
        assert_eq!(batch_size(&signature(1..=8), &samples(50)), 8);
        assert_eq!(batch_size(&signature(1..=128), &samples(500)), CALIBRATION_BATCH);
        assert_eq!(batch_size(&signature(4..=4), &samples(1)), 4);
    }
}
