//! The `cpu` backend: real inference with rten, which is pure Rust, so that every command does real work on
//! any machine.
//!
//! A serialised engine is an ONNX model that rten computes correctly on this processor; half types are computed in
//! FP32 and rounded. A stream is a thread with its own share of the cores; "device memory" is the host's, so inputs
//! are viewed in place and only results are copied.

mod eight_bit;
mod engine;
mod executor;
mod halves;
mod normalise;
mod operators;
mod tensors;
#[cfg(test)]
mod test_models;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Arc;
use std::thread;

use crate::backend::{Backend, BuildOrder, BuildSpec, DeviceSpec, Engine, SerializedEngine};
use crate::error::{Error, Result};
use crate::model::{Model, TensorInfo};

use eight_bit::Products;
use engine::CpuEngine;

/// The backend's name.
pub(super) const NAME: &str = "cpu";
/// A test compares it with the lock file: rten itself does not tell.
const RTEN_VERSION: &str = "0.27.0";

/// Runs networks on the processor with rten.
#[derive(Debug)]
pub struct CpuBackend {
    device: DeviceSpec,
}

impl CpuBackend {
    /// The backend for the processor of this machine.
    pub fn new() -> Self {
        let versions = [("rten", RTEN_VERSION), ("thalweg", env!("CARGO_PKG_VERSION"))];
        let device = DeviceSpec {
            backend: NAME.into(),
            name: processor_name().unwrap_or_else(|| std::env::consts::ARCH.into()),
            // What the process may use, which is less than the machine has inside a container.
            core_count: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(),
            versions: BTreeMap::from(versions.map(|(name, version)| (name.into(), version.into()))),
        };
        Self { device }
    }
}

impl Default for CpuBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for CpuBackend {
    fn device(&self) -> &DeviceSpec {
        &self.device
    }

    fn build(&self, order: &BuildOrder<'_>) -> Result<SerializedEngine> {
        let BuildOrder { model, spec, .. } = *order;
        spec.options.check_fp32(NAME)?;
        let signature = Some(order.signature()?);
        check_types("input", model.inputs())?;
        check_types("output", model.outputs())?;
        operators::check(model.proto())?;
        let model = &halves::in_fp32(&model.embedded()?)?;
        let mut proto = model.proto().clone();
        normalise::normalise(&mut proto, &known_ranks(model, spec)?, Products::of_this_processor())?;
        let model = Model::from_proto(proto, model.path())?;
        let bytes = model.encode();
        engine::check_loads(&model, &bytes)?;
        Ok(SerializedEngine { backend: NAME.into(), bytes, spec: Some(spec.clone()), signature })
    }

    fn takes_types_from_model(&self) -> bool {
        true
    }

    fn load(&self, engine: &SerializedEngine) -> Result<Arc<dyn Engine>> {
        engine.check_backend(NAME)?;
        Ok(Arc::new(CpuEngine::load(engine, &self.device)?))
    }
}

fn check_types(role: &str, tensors: &[TensorInfo]) -> Result<()> {
    let foreign = |tensor: &&TensorInfo| !tensors::SUPPORTED_TYPES.contains(&tensor.data_type);
    let Some(tensor) = tensors.iter().find(foreign) else { return Ok(()) };
    let supported: Vec<_> = tensors::SUPPORTED_TYPES.iter().map(ToString::to_string).collect();
    Err(Error::DataTypeMismatch {
        tensor: tensor.name.clone(),
        expected: format!("one that the {NAME} backend can run ({})", supported.join(", ")),
        got: format!("{role} of {}", tensor.data_type),
    })
}

/// How many dimensions each value of a model has, where that is known.
fn known_ranks(model: &Model, spec: &BuildSpec) -> Result<HashMap<String, usize>> {
    let shapes = model.infer_shapes(&spec.input_shapes)?;
    Ok(shapes.iter().filter_map(|(name, _, shape)| Some((name.to_owned(), shape?.len()))).collect())
}

fn processor_name() -> Option<String> {
    // Arm processors have no such line.
    field_of("/proc/cpuinfo", "model name")
}

fn memory_bytes() -> Option<u64> {
    let kibibytes: u64 = field_of("/proc/meminfo", "MemTotal")?.strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The value of the first line `name: value` of a file.
fn field_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, value) =
        text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}
