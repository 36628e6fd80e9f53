//! A GPU that is not there: a device in virtual time, deterministic to the digit.
//!
//! It answers what several streams would do on a device that nobody has at hand, and it tests the pool, the
//! tuner and the diagnosis. In: a model. Out: an engine whose executors take their time from the model's cost
//! and the device's [`Parameters`]. Every result names the backend `simulated:...`. Layers compute in FP16, which the
//! parameters were fitted to, whether FP32 or FP16 is asked for; INT8 is twice as fast and half as large by the data sheet.
//!
//! ```text
//! model.onnx -> Cost -> kernels -> phases (time alone, shares of SMs and DRAM) -> device (events) -> times
//! ```

mod device;
mod engine;
mod kernels;
mod meter;
mod parameters;
mod phases;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::{Backend, BuildOrder, DeviceSpec, Engine, Precision, SerializedEngine};
use crate::error::Result;
use crate::model::{Cost, Model};

use engine::SimulatedEngine;
use kernels::kernels;
pub use parameters::{ClockParameters, CopyParameters, HostParameters, KernelParameters, Parameters};
use phases::{Phase, Program};

/// What names of simulated devices start with: `simulated:h100`.
pub const PREFIX: &str = "simulated:";

/// Cores of the host that a simulated device is plugged into: those of the machine that the H100's preset was
/// calibrated on. Nothing is simulated of them but the submitting threads.
const HOST_CORES: usize = 16;

/// Simulates engines on one device.
#[derive(Debug)]
pub struct SimulatedBackend {
    parameters: Parameters,
    device: DeviceSpec,
    seed: u64,
}

impl SimulatedBackend {
    /// A device of these parameters, whose noise follows from the seed.
    pub fn new(parameters: Parameters, seed: u64) -> Self {
        let sheet = parameters.sheet;
        let device = DeviceSpec {
            backend: format!("{PREFIX}{}", sheet.key),
            name: format!("{} (simulated)", sheet.name),
            core_count: HOST_CORES,
            memory_bytes: Some(sheet.memory.0),
            versions: BTreeMap::from([("thalweg".into(), env!("CARGO_PKG_VERSION").into())]),
        };
        Self { parameters, device, seed }
    }

    /// The preset of this short name: `h100`, `a100`, `l4` or `orin`.
    ///
    /// # Errors
    /// As [`Parameters::preset`].
    pub fn preset(key: &str) -> Result<Self> {
        Ok(Self::new(Parameters::preset(key)?, 0))
    }
}

/// What one execution asks of a device, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Asked {
    /// On one stream that has the device for itself, from the first kernel to the end of the last.
    pub alone_s: f64,
    /// Of all SMs, at the clock that they hold under full load.
    pub sm_s: f64,
    /// Of DRAM, at what is reached of it.
    pub dram_s: f64,
}

impl Parameters {
    /// The kernels of an execution of this cost on the device.
    fn program(&self, cost: &Cost, is_half: bool) -> Program {
        Program::of(&kernels(cost, is_half), self)
    }

    /// What an execution of this cost asks of the device's kernels.
    pub(crate) fn asked_by(&self, cost: &Cost, is_half: bool) -> Asked {
        let program = self.program(cost, is_half);
        let sum = |time: fn(&Phase) -> f64| program.phases.iter().map(time).sum();
        Asked {
            alone_s: sum(|phase| phase.gap_s + phase.work_s),
            sm_s: sum(|phase| phase.sm_s) / self.clock.sustained,
            dram_s: sum(|phase| phase.dram_s),
        }
    }
}

impl Backend for SimulatedBackend {
    fn device(&self) -> &DeviceSpec {
        &self.device
    }

    fn build(&self, order: &BuildOrder<'_>) -> Result<SerializedEngine> {
        let BuildOrder { model, spec, .. } = *order;
        let signature = Some(order.signature()?);
        let bytes = model.embedded()?.encode();
        let backend = self.device.backend.clone();
        let mut spec = spec.clone();
        if spec.options.precision == Precision::Fp32 {
            // Nobody has named a precision, and a simulated device computes in FP16.
            spec.options.precision = Precision::Fp16;
        }
        Ok(SerializedEngine { backend, bytes, spec: Some(spec), signature })
    }

    fn load(&self, engine: &SerializedEngine) -> Result<Arc<dyn Engine>> {
        engine.check_backend(&self.device.backend)?;
        let model = Model::from_bytes(engine.bytes.clone(), "engine.onnx")?;
        let declared = engine.signature.clone().expect("bug: an engine of ours without its signature");
        let is_int8 = engine.spec.as_ref().is_some_and(|spec| spec.options.precision == Precision::Int8);
        let parameters =
            if is_int8 { self.parameters.in_precision(Precision::Int8) } else { self.parameters };
        Ok(Arc::new(SimulatedEngine::new(parameters, model, declared, self.seed)))
    }
}
