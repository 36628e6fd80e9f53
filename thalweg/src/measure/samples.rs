//! Inputs to measure with: from a NumPy file, or random with a seed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use npyz::{DType, NpyFile, Order};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use zip::ZipArchive;

use crate::backend::Calibration;
use crate::error::{Error, Result};
use crate::model::{DataType, Signature, TensorSpec};
use crate::pool::Reservation;
use crate::random::Random;

/// Largest piece of a copy that several threads share: 30 microseconds of one thread's copying, a few times what it
/// takes to wake another one.
const PIECE_BYTES: usize = 256 * 1024;

/// Some samples of every input. Request `i` of a measurement uses the samples from `i` on, in turn.
#[derive(Clone, Debug)]
pub struct SampleSet {
    count: usize,
    /// Per input: the bytes of one sample after the other.
    inputs: Vec<Vec<u8>>,
    sizes: Vec<usize>,
}

impl SampleSet {
    /// `count` samples from a seed: floating-point numbers evenly spread over 0..1, bytes over all that there are, as in
    /// pictures, and other integers that are 0 or 1, because those are valid indices into any table.
    pub fn random(signature: &Signature, count: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let inputs = signature.inputs.iter().map(|input| random_bytes(input, count, &mut random));
        Self { count, inputs: inputs.collect(), sizes: sizes(signature) }
    }

    /// Samples whose bytes are there already: for each input one sample after the other.
    pub(crate) fn of_bytes(signature: &Signature, count: usize, inputs: Vec<Vec<u8>>) -> Self {
        Self { count, inputs, sizes: sizes(signature) }
    }

    /// Samples from a NumPy file: `.npy` for a network with one input, `.npz` with an array named like
    /// each input otherwise. An array is one sample, or has the number of samples as first dimension. From a
    /// folder, those of all such files in it, by name.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, [`Error::UnknownTensor`], [`Error::ShapeMismatch`]
    /// and [`Error::DataTypeMismatch`] where an array does not fit its input.
    pub fn read(path: &Path, signature: &Signature) -> Result<Self> {
        if !path.is_dir() {
            return Self::read_file(path, signature);
        }
        let mut all: Option<Self> = None;
        for file in sample_files(path)? {
            let more = Self::read_file(&file, signature)?;
            match &mut all {
                Some(all) => all.append(&more),
                None => all = Some(more),
            }
        }
        all.ok_or_else(|| Error::InvalidSetting {
            name: "input",
            value: path.display().to_string(),
            reason: "the folder has no .npy and no .npz file".to_owned(),
        })
    }

    fn append(&mut self, more: &Self) {
        self.count += more.count;
        for (bytes, more) in self.inputs.iter_mut().zip(&more.inputs) {
            bytes.extend_from_slice(more);
        }
    }

    fn read_file(path: &Path, signature: &Signature) -> Result<Self> {
        let arrays = if path.extension().is_some_and(|extension| extension == "npz") {
            read_npz(path, signature)?
        } else {
            vec![read_npy(path, signature)?]
        };
        let count = arrays[0].0;
        for (input, (samples, _)) in signature.inputs.iter().zip(&arrays) {
            if *samples != count {
                return Err(Error::ShapeMismatch {
                    tensor: input.name.clone(),
                    expected: format!("{count} samples, as of `{}`", signature.inputs[0].name),
                    got: format!("{samples} samples"),
                });
            }
        }
        let inputs = arrays.into_iter().map(|(_, bytes)| bytes).collect();
        Ok(Self { count, inputs, sizes: sizes(signature) })
    }

    /// The same samples for a builder, which takes ranges of INT8 from them. `signature` is the one they were read
    /// for.
    pub fn calibration(&self, signature: &Signature) -> Calibration {
        let named = signature.inputs.iter().zip(&self.inputs);
        let named = named.map(|(input, bytes)| (input.name.clone(), Bytes::copy_from_slice(bytes)));
        Calibration::new(self.count, named.collect())
    }

    /// Number of samples, at least one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The bytes of one sample of one input.
    pub fn sample(&self, input: usize, sample: usize) -> &[u8] {
        let size = self.sizes[input];
        let start = (sample % self.count) * size;
        &self.inputs[input][start..start + size]
    }

    /// A set of one of the samples.
    pub(crate) fn only(&self, sample: usize) -> Self {
        let inputs = (0..self.inputs.len()).map(|input| self.sample(input, sample).to_vec());
        Self { count: 1, inputs: inputs.collect(), sizes: self.sizes.clone() }
    }

    /// A set of the first ones.
    pub(crate) fn first(&self, count: usize) -> Self {
        let count = count.min(self.count);
        let inputs = self.inputs.iter().zip(&self.sizes).map(|(bytes, size)| bytes[..count * size].to_vec());
        Self { count, inputs: inputs.collect(), sizes: self.sizes.clone() }
    }

    /// Bytes of one sample of all inputs.
    pub fn byte_count(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Fills a reservation with samples from `first` on.
    pub fn fill(&self, reservation: &mut Reservation, first: usize) {
        for input in 0..self.sizes.len() {
            let way = reservation.host_copy_at(input);
            self.pieces(input, first, reservation).for_each(|(to, from)| way.copy(to, from));
        }
    }

    /// As [`fill`](Self::fill), on all threads of the rayon pool that it is called on.
    pub(super) fn fill_in_parallel(&self, reservation: &mut Reservation, first: usize) {
        for input in 0..self.sizes.len() {
            let way = reservation.host_copy_at(input);
            let pieces: Vec<_> = self.pieces(input, first, reservation).collect();
            pieces.into_par_iter().for_each(|(to, from)| way.copy(to, from));
        }
    }

    /// What is to be copied where, in pieces that are worth a thread's while.
    fn pieces<'a>(
        &'a self,
        input: usize,
        first: usize,
        reservation: &'a mut Reservation,
    ) -> impl Iterator<Item = (&'a mut [u8], &'a [u8])> {
        let places = reservation.input_at(input).chunks_exact_mut(self.sizes[input].max(1));
        places.enumerate().flat_map(move |(offset, place)| {
            place.chunks_mut(PIECE_BYTES).zip(self.sample(input, first + offset).chunks(PIECE_BYTES))
        })
    }
}

/// The NumPy files of a folder, by name.
fn sample_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(Error::io("read", folder))?;
    paths.retain(|path| path.extension().is_some_and(|it| it == "npy" || it == "npz"));
    paths.sort();
    Ok(paths)
}

fn sizes(signature: &Signature) -> Vec<usize> {
    signature.inputs.iter().map(TensorSpec::byte_count).collect()
}

fn random_bytes(input: &TensorSpec, count: usize, random: &mut Random) -> Vec<u8> {
    let elements = input.element_count() * count;
    let mut bytes = Vec::with_capacity(elements * input.data_type.byte_count());
    for _ in 0..elements {
        let unit = random.unit();
        let bit = u8::from(unit < 0.5);
        match input.data_type {
            DataType::F32 => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a random number loses nothing that counts"
                )]
                bytes.extend((unit as f32).to_le_bytes());
            }
            DataType::F64 => bytes.extend(unit.to_le_bytes()),
            DataType::F16 => bytes.extend(half::f16::from_f64(unit).to_le_bytes()),
            DataType::BF16 => bytes.extend(half::bf16::from_f64(unit).to_le_bytes()),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is from 0 to 255"
            )]
            DataType::U8 => bytes.push((unit * 256.0) as u8),
            integer => {
                bytes.push(bit);
                bytes.extend(std::iter::repeat_n(0, integer.byte_count() - 1));
            }
        }
    }
    bytes
}

fn read_npy(path: &Path, signature: &Signature) -> Result<(usize, Vec<u8>)> {
    let [input] = &signature.inputs[..] else {
        let names: Vec<_> = signature.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
        return Err(Error::InvalidSetting {
            name: "input",
            value: path.display().to_string(),
            reason: format!(
                "the model has the inputs {}: give an .npz file with one array each",
                names.join(", ")
            ),
        });
    };
    let file = File::open(path).map_err(Error::io("read", path))?;
    let array = NpyFile::new(io::BufReader::new(file)).map_err(Error::io("read", path))?;
    read_array(array, input, path)
}

fn read_npz(path: &Path, signature: &Signature) -> Result<Vec<(usize, Vec<u8>)>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut archive = ZipArchive::new(file).map_err(io::Error::from).map_err(Error::io("read", path))?;
    let names: Vec<String> = (0..archive.len())
        .filter_map(|index| Some(archive.name_for_index(index)?.ok()?.trim_end_matches(".npy").to_owned()))
        .collect();
    for name in &names {
        signature.input_index(name)?;
    }
    let mut arrays = Vec::new();
    for input in &signature.inputs {
        if !names.contains(&input.name) {
            return Err(Error::InvalidSetting {
                name: "input",
                value: path.display().to_string(),
                reason: format!("it has no array for input `{}`", input.name),
            });
        }
        let entry = archive.by_name(&format!("{}.npy", input.name));
        let entry = entry.map_err(io::Error::from).map_err(Error::io("read", path))?;
        let array = NpyFile::new(entry).map_err(Error::io("read", path))?;
        arrays.push(read_array(array, input, path)?);
    }
    Ok(arrays)
}

/// Number of samples and their bytes.
fn read_array<R: Read>(array: NpyFile<R>, input: &TensorSpec, path: &Path) -> Result<(usize, Vec<u8>)> {
    let shape: Vec<usize> =
        array.shape().iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect();
    let count = match shape.split_first() {
        _ if shape == input.shape => 1,
        Some((count, sample)) if *count > 0 && sample == input.shape => *count,
        _ => {
            return Err(Error::ShapeMismatch {
                tensor: input.name.clone(),
                expected: format!("{:?}, or that with the number of samples in front", input.shape),
                got: format!("{shape:?} in {}", path.display()),
            });
        }
    };
    if array.order() == Order::Fortran && shape.len() > 1 {
        return Err(Error::InvalidSetting {
            name: "input",
            value: path.display().to_string(),
            reason: format!("array `{}` is in Fortran order: save numpy.ascontiguousarray of it", input.name),
        });
    }
    let got = array.dtype();
    let is_of = |data_type| matches!(&got, DType::Plain(plain) if plain.to_string().trim_start_matches(['<', '|']) == numpy_name(data_type));
    if input.data_type == DataType::I32 && is_of(DataType::I64) {
        let bytes = narrowed(array).map_err(cut_off_is_named).map_err(Error::io("read", path))?;
        return Ok((count, bytes));
    }
    if !is_of(input.data_type) {
        return Err(Error::DataTypeMismatch {
            tensor: input.name.clone(),
            expected: input.data_type.to_string(),
            got: format!("{} in {}: convert the array with numpy.astype", got.descr(), path.display()),
        });
    }
    let bytes =
        element_bytes(array, input.data_type).map_err(cut_off_is_named).map_err(Error::io("read", path))?;
    Ok((count, bytes))
}

/// TensorRT 8 makes 32-bit integers of a model's 64-bit ones; samples for the model go into its engine too.
fn narrowed<R: Read>(array: NpyFile<R>) -> io::Result<Vec<u8>> {
    let narrow = |wide: i64| i32::try_from(wide).map_err(|_| format!("{wide} is no 32-bit integer"));
    let narrow: Result<Vec<i32>, String> = array.into_vec::<i64>()?.into_iter().map(narrow).collect();
    Ok(bytemuck::cast_slice(&narrow.map_err(io::Error::other)?).to_vec())
}

/// The standard library says "failed to fill whole buffer", which helps nobody.
fn cut_off_is_named(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the file is cut off"),
        _ => error,
    }
}

/// NumPy's name of a type, without the byte order.
fn numpy_name(data_type: DataType) -> &'static str {
    match data_type {
        DataType::F32 => "f4",
        DataType::F64 => "f8",
        DataType::F16 => "f2",
        // NumPy has no bfloat16; the bits can be given as unsigned numbers.
        DataType::BF16 | DataType::U16 => "u2",
        DataType::I8 => "i1",
        DataType::U8 => "u1",
        DataType::I16 => "i2",
        DataType::I32 => "i4",
        DataType::U32 => "u4",
        DataType::I64 => "i8",
        DataType::U64 => "u8",
        DataType::Bool => "b1",
    }
}

fn element_bytes<R: Read>(array: NpyFile<R>, data_type: DataType) -> io::Result<Vec<u8>> {
    Ok(match data_type {
        DataType::F32 => bytemuck::cast_slice(&array.into_vec::<f32>()?).to_vec(),
        DataType::F64 => bytemuck::cast_slice(&array.into_vec::<f64>()?).to_vec(),
        DataType::F16 => bytemuck::cast_slice(&array.into_vec::<half::f16>()?).to_vec(),
        DataType::BF16 | DataType::U16 => bytemuck::cast_slice(&array.into_vec::<u16>()?).to_vec(),
        DataType::I8 => bytemuck::cast_slice(&array.into_vec::<i8>()?).to_vec(),
        DataType::U8 => array.into_vec::<u8>()?,
        DataType::I16 => bytemuck::cast_slice(&array.into_vec::<i16>()?).to_vec(),
        DataType::I32 => bytemuck::cast_slice(&array.into_vec::<i32>()?).to_vec(),
        DataType::U32 => bytemuck::cast_slice(&array.into_vec::<u32>()?).to_vec(),
        DataType::I64 => bytemuck::cast_slice(&array.into_vec::<i64>()?).to_vec(),
        DataType::U64 => bytemuck::cast_slice(&array.into_vec::<u64>()?).to_vec(),
        DataType::Bool => array.into_vec::<bool>()?.into_iter().map(u8::from).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_are_a_picture_and_random_indices_are_valid() {
        let of_type = |data_type| {
            let input = TensorSpec { name: "x".to_owned(), data_type, shape: vec![4096], is_batched: true };
            let signature = Signature { inputs: vec![input], outputs: Vec::new(), batch_sizes: 1..=1 };
            SampleSet::random(&signature, 1, 0).sample(0, 0).to_vec()
        };
        let count_of_values = |bytes: &[u8]| bytes.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(count_of_values(&of_type(DataType::U8)), 256);
        assert_eq!(count_of_values(&of_type(DataType::I64)), 2);
    }
}
