//! Other engines of the network: what they should gain, and the bench on which remedies that need one are tried.
//!
//! In: limits, what crosses the bus, the model's roofline. Out: [`Remedy`]s that no knob of a pool can turn, and for a setup
//! the workload that runs it. Building is left to the caller's [`Rebuild`]; what lower precisions cost in accuracy is left
//! to [`precision`](crate::precision).

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::remedies::{Knob, Remedy, Setup, Tried, around};
use super::{Evidence, Quantity};
use crate::backend::{DataSheet, Engine, Precision};
use crate::capacity::PaperWorkload;
use crate::measure::{Estimate, Measurement, Workload};
use crate::model::{DataType, TensorSpec};
use crate::units::{Bytes, Nanos};

/// How an engine differs from the one that was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineVariant {
    /// The least precision that its layers may compute in; `None` for the same.
    pub precision: Option<Precision>,
    /// The type in which it takes what were FP32 inputs, `u8` or `f16`; `None` for the same.
    pub input_type: Option<DataType>,
}

impl EngineVariant {
    /// Whether it is the given engine.
    pub fn is_given(&self) -> bool {
        *self == Self::default()
    }
}

/// `precision fp16`, `inputs as u8`
impl fmt::Display for EngineVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = self.precision.map(|it| format!("precision {it}"));
        let inputs = self.input_type.map(|it| format!("inputs as {it}"));
        f.write_str(&precision.into_iter().chain(inputs).collect::<Vec<_>>().join(", "))
    }
}

/// Builds other engines of the network that is diagnosed.
#[derive(Clone, Copy)]
pub struct Rebuild<'a> {
    /// Makes a workload of an engine for batches up to this size, or says why there is none.
    pub build: &'a dyn Fn(EngineVariant, usize) -> Result<Workload, String>,
    /// Whether it may be asked for larger batches than the given engine runs.
    pub may_grow: bool,
}

/// Share of cycles in which matrix products of full tiles keep the tensor pipes busy (H100, TensorRT 8.6).
const FULL_PIPES: f64 = 0.7;

/// Part of the SMs' time that is arithmetic, where nothing tells it.
const HALF: f64 = 0.5;

/// What other engines should gain. The host has no bus and no choice of precision.
pub(super) fn engine_remedies(
    engine: &dyn Engine,
    model: Option<&PaperWorkload>,
    (setup, measured): (Setup, &Measurement),
    evidence: &Evidence,
    limits: &Limits,
) -> Vec<Remedy> {
    if measured.device.is_host() {
        return Vec::new();
    }
    let mut remedies = Vec::new();
    let mut add = |knob, engine: EngineVariant, predicted, rests_on: String| {
        let setup = Setup { engine, ..setup };
        remedies.push(Remedy { knob, setup, predicted, rests_on: Some(rests_on), build: None, tried: None });
    };
    let inputs = &engine.transferred().inputs;
    for input_type in [DataType::U8, DataType::F16] {
        let (before, after) = (input_bytes(inputs, DataType::F32), input_bytes(inputs, input_type));
        if after < before {
            let predicted = around(limits.gain_of_input_bytes(after.0 as f64 / before.0 as f64));
            let rests_on =
                format!("inputs of {after} in place of {before} for each sample, and all else as it is");
            add(
                Knob::InputType,
                EngineVariant { input_type: Some(input_type), ..setup.engine },
                predicted,
                rests_on,
            );
        }
    }
    if let Some((from, to)) = lower(engine, model) {
        let (predicted, rests_on) = of_precision(model, (from, to), measured, evidence, limits);
        add(Knob::Precision, EngineVariant { precision: Some(to), ..setup.engine }, predicted, rests_on);
    }
    remedies
}

/// Bytes of one sample with its FP32 numbers in another type.
fn input_bytes(inputs: &[TensorSpec], full_as: DataType) -> Bytes {
    let of = |input: &TensorSpec| {
        let of_type = if input.data_type == DataType::F32 { full_as } else { input.data_type };
        (input.element_count() * of_type.byte_count()) as u64
    };
    Bytes(inputs.iter().map(of).sum())
}

/// The precision that the engine has, and the next lower one.
fn lower(engine: &dyn Engine, model: Option<&PaperWorkload>) -> Option<(Precision, Precision)> {
    let written_in = model.map_or(Precision::Fp32, |model| model.written_in);
    match (engine.precision()?, written_in) {
        (Precision::Int8, _) | (_, Precision::Int8) => None,
        (Precision::Fp16, _) | (_, Precision::Fp16) => Some((Precision::Fp16, Precision::Int8)),
        (Precision::Bf16, _) | (_, Precision::Bf16) => Some((Precision::Bf16, Precision::Int8)),
        (Precision::Fp32, Precision::Fp32) => Some((Precision::Fp32, Precision::Fp16)),
    }
}

/// Layers in half the bits ask DRAM for half the bytes, and the SMs for less time as far as that is arithmetic: the
/// roofline says how much less, the tensor pipes how much of it is. None of it is gained where kernels wait for neither, so
/// the interval begins there; it ends where all takes half the time.
fn of_precision(
    model: Option<&PaperWorkload>,
    (from, to): (Precision, Precision),
    measured: &Measurement,
    evidence: &Evidence,
    limits: &Limits,
) -> (Estimate, String) {
    // Half of the bits are moved and computed in half of the time at best.
    const LEAST: f64 = 0.5;
    let sheet = DataSheet::of_device(&measured.device.name);
    let roofline = model.zip(sheet).map(|(model, sheet)| model.time_ratio(&sheet, from, to));
    let fill = evidence.value(Quantity::DeviceFill);
    let pipes =
        evidence.value(Quantity::TensorActivity).zip(fill).map(|(pipes, fill)| pipes / fill / FULL_PIPES);
    // Layers outside of the tensor pipes get faster in FP16 as well, and in INT8 hardly any is there.
    let arithmetic =
        pipes.map_or(HALF, |part| if from == Precision::Fp32 { part.midpoint(1.0) } else { part });
    let sms = 1.0 - arithmetic.clamp(0.0, 1.0) * (1.0 - roofline.unwrap_or(LEAST).max(LEAST));
    let value = limits.gain_of_demands(sms, LEAST);
    let upper = value.max(limits.gain_of_demands(LEAST, LEAST));
    let told =
        |share: Option<f64>| share.map_or("not known".to_owned(), |share| format!("{:.0} %", 100.0 * share));
    let (by, roof) = match roofline {
        Some(ratio) => ("by the model's roofline", ratio),
        None => ("at best, without a model and a data sheet", LEAST),
    };
    let rests_on = format!(
        "arithmetic in {} of {from}'s time {by}; it is {} of the SMs' time; SMs full {}, DRAM {}; the builder may find no \
         faster kernels",
        told(Some(roof)),
        told(Some(arithmetic.clamp(0.0, 1.0))),
        told(fill),
        told(evidence.value(Quantity::DramFill))
    );
    (Estimate { value, lower: value.min(1.0), upper }, rests_on)
}

/// The given workload, and others that were built to try what it cannot run.
pub(super) struct Bench<'a> {
    given: &'a Workload,
    rebuild: Result<Rebuild<'a>, &'a str>,
    built: Vec<Built>,
}

struct Built {
    variant: EngineVariant,
    workload: Result<Workload, String>,
    took: Nanos,
}

impl<'a> Bench<'a> {
    pub fn new(given: &'a Workload, rebuild: Result<Rebuild<'a>, &'a str>) -> Self {
        Self { given, rebuild, built: Vec::new() }
    }

    /// Whether a setup runs on the given engine, or on one that could be built.
    pub fn may_run(&self, setup: &Setup) -> bool {
        let may_build = self.rebuild.is_ok_and(|it| it.may_grow || !setup.engine.is_given());
        may_build || (setup.engine.is_given() && fits(self.given, setup))
    }

    /// Why no other engine can be built.
    pub fn refusal(&self) -> Option<&'a str> {
        self.rebuild.err()
    }

    /// Builds an engine for the setup if there is none. What fails is not tried again.
    pub fn provide(&mut self, setup: &Setup) {
        let Ok(rebuild) = self.rebuild else { return };
        if self.workload(setup).is_none() && self.failure(setup).is_none() {
            let began = Instant::now();
            let workload = (rebuild.build)(setup.engine, setup.configuration.batch_size);
            let took = Nanos::from_duration(began.elapsed());
            self.built.push(Built { variant: setup.engine, workload, took });
        }
    }

    /// The workload that runs a setup; `None` where none does.
    pub fn workload(&self, setup: &Setup) -> Option<&Workload> {
        let is_given = setup.engine.is_given() && fits(self.given, setup);
        if is_given { Some(self.given) } else { self.built_for(setup)?.workload.as_ref().ok() }
    }

    /// How long building its engine took; `None` for the given one.
    pub fn build_time(&self, setup: &Setup) -> Option<Nanos> {
        let is_given = setup.engine.is_given() && fits(self.given, setup);
        if is_given { None } else { Some(self.built_for(setup)?.took) }
    }

    /// Why there is no engine for it, where one was asked for.
    pub fn failure(&self, setup: &Setup) -> Option<&str> {
        let failed = self.built.iter().filter(|it| it.variant == setup.engine);
        failed.filter_map(|it| it.workload.as_ref().err()).map(String::as_str).next()
    }

    fn built_for(&self, setup: &Setup) -> Option<&Built> {
        let runs = |it: &&Built| it.workload.as_ref().is_ok_and(|workload| fits(workload, setup));
        self.built.iter().filter(|it| it.variant == setup.engine).find(runs)
    }
}

fn fits(workload: &Workload, setup: &Setup) -> bool {
    workload.engine.signature().batch_sizes.contains(&setup.configuration.batch_size)
}

/// What is said of a remedy that nothing runs.
pub(super) fn untried(reason: &str) -> Tried {
    Tried::Untried(reason.to_owned())
}
