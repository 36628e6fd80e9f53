//! Comparing every stream's outputs with a single-stream reference.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use npyz::WriterBuilder as _;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::SampleSet;
use crate::backend::{Engine, HostTensor};
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::model::{DataType, Signature};
use crate::pool::{Configuration, ExecutionPool, Order, Response};
use crate::units::{Clock, Nanos};

/// Largest relative error that counts as equal for 32-bit and 64-bit floating-point numbers. Another
/// batch size may take another kernel, which adds in another order; what a wrong buffer does is larger.
const TOLERANCE: f64 = 1e-3;

/// The same for 16-bit floating-point numbers, whose own precision is 1e-3 to 8e-3.
const HALF_TOLERANCE: f64 = 2e-2;

/// The most that a batch size may explain: of ResNet-50 in FP16 on an H200, whose kernels at batch 32 and 128 are others
/// than at batch 1, single numbers were 1.3 % apart. More is no rounding.
const MOST_BY_BATCH: f64 = 0.1;

/// Outputs of every sample, from one stream that ran one sample after the other.
#[derive(Clone, Debug)]
pub struct Reference {
    samples: Samples,
    sample_time: Nanos,
    /// By batch size, where kernels give something else than for a sample alone. Taken for a moment by whoever compares.
    batches: Arc<Mutex<BTreeMap<usize, Arc<OfBatch>>>>,
}

/// By sample, then by output.
type Samples = Vec<Vec<ReferenceTensor>>;

/// What one stream gives at one batch size.
#[derive(Debug)]
struct OfBatch {
    samples: Samples,
    /// The largest relative error against a sample alone.
    difference: f64,
}

#[derive(Clone, Debug)]
struct ReferenceTensor {
    values: Vec<f64>,
    /// The largest magnitude, which relative errors are relative to.
    magnitude: f64,
}

impl Reference {
    /// Runs every sample alone on one stream.
    ///
    /// # Errors
    /// Whatever the engine fails with.
    pub fn compute(engine: &Arc<dyn Engine>, samples: &SampleSet) -> Result<Self> {
        let smallest = *engine.signature().batch_sizes.start();
        let (samples, time) = run_on_one_stream(engine, samples, smallest, 1)?;
        let sample_time = Nanos((time.0 / smallest as u64).max(1));
        Ok(Self { samples, sample_time, batches: Arc::default() })
    }

    /// Finds out whether one stream gives something else at a batch size than for a sample alone, more than the tolerance
    /// and no more than rounding explains, which was not known before. Then outputs of that batch size are compared with
    /// what it gives.
    ///
    /// # Errors
    /// Whatever the engine fails with.
    pub(super) fn learn(
        &self,
        engine: &Arc<dyn Engine>,
        samples: &SampleSet,
        batch_size: usize,
    ) -> Result<bool> {
        let signature = engine.signature();
        let is_known = batch_size <= *signature.batch_sizes.start();
        if is_known || self.batches().contains_key(&batch_size) {
            return Ok(false);
        }
        let (samples, _) = run_on_one_stream(engine, samples, batch_size, batch_size)?;
        let of_output = |output: usize| {
            let pairs = samples.iter().zip(&self.samples);
            let differences = pairs.map(|(own, alone)| alone[output].difference(&own[output].values));
            differences.fold(0.0, f64::max)
        };
        let differences: Vec<f64> = (0..signature.outputs.len()).map(of_output).collect();
        let mut outputs = differences.iter().zip(&signature.outputs);
        let is_beyond = outputs.any(|(difference, output)| *difference > tolerance(output.data_type));
        let difference = differences.into_iter().fold(0.0, f64::max);
        if !is_beyond || difference > MOST_BY_BATCH {
            return Ok(false);
        }
        self.batches().insert(batch_size, Arc::new(OfBatch { samples, difference }));
        Ok(true)
    }

    /// How far one stream at a batch size is from a sample alone, where that had to be found out.
    pub(super) fn batch_difference(&self, batch_size: usize) -> Option<f64> {
        self.batches().get(&batch_size).map(|own| own.difference)
    }

    fn batches(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<OfBatch>>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many samples there are.
    pub fn sample_count(&self) -> usize {
        self.samples.len()
    }

    /// The elements of one output of one sample, row-major.
    ///
    /// # Panics
    /// Where there is no such sample or output.
    pub fn output(&self, sample: usize, output: usize) -> &[f64] {
        &self.samples[sample][output].values
    }

    /// How long one sample of the smallest batch takes on one stream: the shortest of all, since the first ones warm up.
    pub fn sample_time(&self) -> Nanos {
        self.sample_time
    }

    /// Writes the outputs of all samples as an `.npz` file: an array of 64-bit floating-point numbers per
    /// output, `[samples, elements]`.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be written, [`Error::ShapeMismatch`] where samples differ in
    /// size.
    pub fn write(&self, path: &Path, signature: &Signature) -> Result<()> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (index, output) in signature.outputs.iter().enumerate() {
            let size = self.samples[0][index].values.len();
            if let Some(other) = self.samples.iter().find(|sample| sample[index].values.len() != size) {
                return Err(Error::ShapeMismatch {
                    tensor: output.name.clone(),
                    expected: format!("{size} elements in every sample"),
                    got: format!("{} elements", other[index].values.len()),
                });
            }
            let written = archive
                .start_file(format!("{}.npy", output.name), SimpleFileOptions::default())
                .map_err(std::io::Error::from)
                .and_then(|()| {
                    write_array(&mut archive, self.samples.iter().map(|s| &s[index].values[..]), size)
                });
            written.map_err(Error::io("write", path))?;
        }
        let bytes = archive.finish().map_err(std::io::Error::from).map_err(Error::io("write", path))?;
        write_whole(path, &bytes.into_inner())
    }

    /// Compares a response, whose first sample is `first_sample`, and gives the largest relative error. `room` is used
    /// again from call to call, so that comparing does not allocate.
    ///
    /// # Errors
    /// [`Error::WrongResult`] for the first element above the tolerance.
    pub fn check(&self, response: &Response, first_sample: usize, room: &mut Vec<f64>) -> Result<f64> {
        let own = self.batches().get(&response.batch_size()).map(Arc::clone);
        let reference = own.as_ref().map_or(&self.samples, |own| &own.samples);
        let mut worst = 0.0_f64;
        for (output, tensor) in response.outputs().iter().enumerate() {
            let is_batched = tensor.spec().is_batched;
            let samples = if is_batched { response.samples() } else { 0..1 };
            let tolerance = tolerance(tensor.data_type());
            for (offset, sample) in samples.enumerate() {
                let expected = &reference[(first_sample + offset) % reference.len()][output];
                room.clear();
                read_values(tensor.data_type(), tensor.samples(sample..sample + 1), room);
                worst = worst.max(expected.check(room, tensor, response, tolerance)?);
            }
        }
        Ok(worst)
    }
}

/// Outputs of every sample from one stream, so many samples an execution, and the shortest time of one.
fn run_on_one_stream(
    engine: &Arc<dyn Engine>,
    samples: &SampleSet,
    batch_size: usize,
    at_once: usize,
) -> Result<(Samples, Nanos)> {
    let configuration = Configuration { batch_size, depth: 1, ..Configuration::default() };
    let pool = ExecutionPool::start(Arc::clone(engine), &configuration, Clock::start())?;
    let producer = pool.producer();
    let mut responses = pool.responses(Order::Completion);
    let mut outputs = Vec::with_capacity(samples.count());
    let mut time = Nanos(u64::MAX);
    for first in (0..samples.count()).step_by(at_once) {
        let mut reservation = producer.reserve(at_once)?;
        samples.fill(&mut reservation, first);
        reservation.commit(0);
        let Some(response) = responses.next() else { break };
        if let Some(error) = response.error() {
            return Err(repeat(error, &response));
        }
        time = time.min(response.stages().compute.duration());
        for sample in 0..at_once.min(samples.count() - first) {
            let tensors = response.outputs().iter();
            outputs.push(tensors.map(|tensor| ReferenceTensor::of(tensor, sample)).collect());
        }
    }
    pool.stop()?;
    Ok((outputs, time))
}

/// A NumPy array `[samples, size]`.
fn write_array<'a>(
    to: &mut impl Write,
    samples: impl ExactSizeIterator<Item = &'a [f64]>,
    size: usize,
) -> std::io::Result<()> {
    let shape = [samples.len() as u64, size as u64];
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(to).begin_nd()?;
    for values in samples {
        writer.extend(values.iter().copied())?;
    }
    writer.finish()
}

impl ReferenceTensor {
    fn of(tensor: &HostTensor, sample: usize) -> Self {
        let sample = if tensor.spec().is_batched { sample } else { 0 };
        let mut values = Vec::new();
        read_values(tensor.data_type(), tensor.samples(sample..sample + 1), &mut values);
        let magnitude =
            values.iter().filter(|value| value.is_finite()).fold(0.0, |max: f64, v| max.max(v.abs()));
        Self { values, magnitude }
    }

    fn check(&self, got: &[f64], tensor: &HostTensor, response: &Response, tolerance: f64) -> Result<f64> {
        let stream = response.slot().executor;
        if got.len() != self.values.len() {
            return Err(Error::ShapeMismatch {
                tensor: tensor.spec().name.clone(),
                expected: format!("{} elements, as the single-stream reference has", self.values.len()),
                got: format!("{} elements on stream {stream}", got.len()),
            });
        }
        let mut worst = 0.0_f64;
        for (index, (got, expected)) in got.iter().zip(&self.values).enumerate() {
            let error = relative_error(*got, *expected, self.magnitude);
            if error > tolerance {
                let (tensor, batch_size) = (tensor.spec().name.clone(), response.batch_size());
                let (expected, got) = (*expected, *got);
                return Err(Error::WrongResult { stream, batch_size, tensor, index, expected, got });
            }
            worst = worst.max(error);
        }
        Ok(worst)
    }

    /// The largest relative error of other values.
    fn difference(&self, others: &[f64]) -> f64 {
        let errors = others.iter().zip(&self.values).map(|(a, b)| relative_error(*a, *b, self.magnitude));
        errors.fold(0.0, f64::max)
    }
}

/// |got - expected| over the tensor's largest magnitude. Equal infinities and two NaN count as equal;
/// anything else that is not finite, or not zero where all should be zero, is infinitely wrong.
fn relative_error(got: f64, expected: f64, magnitude: f64) -> f64 {
    if got == expected || (got.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let error = (got - expected).abs() / magnitude;
    if error.is_nan() { f64::INFINITY } else { error }
}

fn tolerance(data_type: DataType) -> f64 {
    match data_type {
        DataType::F32 | DataType::F64 => TOLERANCE,
        DataType::F16 | DataType::BF16 => HALF_TOLERANCE,
        _ => 0.0,
    }
}

/// Adds the elements as `f64`. 64-bit integers above 2^53 lose their last bits; that can hide a difference
/// between two of them, never make one up.
fn read_values(data_type: DataType, bytes: &[u8], to: &mut Vec<f64>) {
    fn read<const N: usize>(bytes: &[u8], to: &mut Vec<f64>, value: impl Fn([u8; N]) -> f64) {
        to.extend(bytes.as_chunks::<N>().0.iter().map(|element| value(*element)));
    }
    match data_type {
        DataType::F32 => read(bytes, to, |b| f32::from_le_bytes(b).into()),
        DataType::F64 => read(bytes, to, f64::from_le_bytes),
        DataType::F16 => read(bytes, to, |b| half::f16::from_le_bytes(b).into()),
        DataType::BF16 => read(bytes, to, |b| half::bf16::from_le_bytes(b).into()),
        DataType::I8 => read(bytes, to, |b| i8::from_le_bytes(b).into()),
        DataType::U8 | DataType::Bool => read(bytes, to, |b| u8::from_le_bytes(b).into()),
        DataType::I16 => read(bytes, to, |b| i16::from_le_bytes(b).into()),
        DataType::U16 => read(bytes, to, |b| u16::from_le_bytes(b).into()),
        DataType::I32 => read(bytes, to, |b| i32::from_le_bytes(b).into()),
        DataType::U32 => read(bytes, to, |b| u32::from_le_bytes(b).into()),
        DataType::I64 => read(bytes, to, |b| i64::from_le_bytes(b) as f64),
        DataType::U64 => read(bytes, to, |b| u64::from_le_bytes(b) as f64),
    }
}

/// An error that stays with its response, once more.
fn repeat(error: &Error, response: &Response) -> Error {
    let slot = response.slot();
    let reason = match error {
        Error::Execution { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    Error::Execution { stream: slot.executor, slot: slot.index, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(data_type: DataType, bytes: &[u8]) -> Vec<f64> {
        let mut values = Vec::new();
        read_values(data_type, bytes, &mut values);
        values
    }

    #[test]
    fn errors_are_relative_to_the_largest_magnitude() {
        assert_eq!(relative_error(1.0, 1.5, 2.0), 0.25);
        assert_eq!(relative_error(0.0, 0.0, 0.0), 0.0);
        assert_eq!(relative_error(1e-30, 0.0, 0.0), f64::INFINITY);
    }

    #[test]
    fn what_is_not_finite_must_be_the_same() {
        assert_eq!(relative_error(f64::NAN, f64::NAN, 1.0), 0.0);
        assert_eq!(relative_error(f64::NEG_INFINITY, f64::NEG_INFINITY, 1.0), 0.0);
        assert_eq!(relative_error(f64::NAN, 1.0, 1.0), f64::INFINITY);
        assert_eq!(relative_error(f64::INFINITY, 1.0, 1.0), f64::INFINITY);
    }

    #[test]
    fn every_type_is_read_as_numbers() {
        assert_eq!(values(DataType::F32, &(-1.5f32).to_le_bytes()), [-1.5]);
        assert_eq!(values(DataType::I64, &(-7i64).to_le_bytes()), [-7.0]);
        assert_eq!(values(DataType::Bool, &[1, 0]), [1.0, 0.0]);
        assert_eq!(values(DataType::BF16, &half::bf16::from_f32(2.0).to_le_bytes()), [2.0]);
    }
}
