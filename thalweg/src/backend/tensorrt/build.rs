//! From a model to a serialised engine.

use std::path::Path;
use std::sync::Arc;

use thalweg_nvidia::cuda::CudaContext;
use thalweg_nvidia::tensorrt::{
    Builder, BuilderConfig, BuilderFlag, HostMemory, Network, OptimizationProfile, ProfilingVerbosity,
    ShapeRange, SharedProfiles, parse_onnx,
};

use super::calibrate::{self, CalibrationProblem, SampleBatches};
use super::onnx;
use super::profiles::UNSHARED_PROFILES;
use super::timings::Timings;
use super::watched::{LogRelay, WatchedBuild};
use crate::backend::{BuildOptions, BuildOrder, Calibration, Precision};
use crate::error::{Error, Result};
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::type_proto::Value as Type;
use crate::model::proto::{AttributeProto, GraphProto, ValueInfoProto};
use crate::model::{Signature, TensorSpec};

/// What a build happens with.
pub(super) struct Workshop<'a> {
    pub builder: Builder,
    /// The GPU; TensorRT for RTX builds without one.
    pub context: Option<&'a Arc<CudaContext>>,
    pub log: &'a LogRelay,
    /// The file of timings that builds share.
    pub timing_cache: Option<&'a Path>,
}

impl Workshop<'_> {
    /// Builds an engine for all batch sizes of `signature`, with kernels that are chosen for the largest.
    ///
    /// # Errors
    /// In TensorRT's own words; [`Error::BuildStopped`] where the order's watch stopped it.
    pub fn build(&self, order: &BuildOrder<'_>, signature: &Signature) -> Result<HostMemory> {
        let mut network = self.builder.create_network()?;
        parse_onnx(&mut network, &onnx::with_shapes(order.model, signature)?, None)?;
        let mut config = self.builder.create_config()?;
        configure(&mut config, &order.spec.options, order.model.graph())?;
        // Executors share a profile where that can be, and each of their graphs has a context of its own.
        let profile_count = match config.share_profiles()? {
            SharedProfiles::Yes => 1,
            SharedProfiles::OnePerContext => UNSHARED_PROFILES,
        };
        let (least, most) = (*signature.batch_sizes.start(), *signature.batch_sizes.end());
        for _ in 0..profile_count {
            let profile = self.profile(&network, signature, least..=most)?;
            config.add_optimization_profile(profile)?;
        }
        let problem = match order.calibration {
            Some(calibration) => Some(self.calibrate(&mut config, &network, signature, calibration)?),
            None => None,
        };
        let timings = self.timing_cache.map(|file| Timings::read(&mut config, file, order)).transpose()?;
        let watched =
            order.watch.map(|watch| WatchedBuild::start(&mut config, watch, self.log)).transpose()?;
        let built = self.builder.build(&network, &config);
        if let Some(problem) = problem.and_then(|problem| problem.take()) {
            return Err(problem);
        }
        if watched.is_some_and(|watched| watched.was_stopped()) {
            return Err(Error::BuildStopped);
        }
        let built = built?;
        if let Some(timings) = timings {
            timings.write(order);
        }
        Ok(built)
    }

    /// The range of every input, of those without open dimensions too: 8.6 makes no context of an engine that has no
    /// profile and an output whose shape depends on data.
    fn profile(
        &self,
        network: &Network,
        signature: &Signature,
        batch_sizes: std::ops::RangeInclusive<usize>,
    ) -> Result<OptimizationProfile> {
        let mut profile = self.builder.create_optimization_profile()?;
        let (least, most) = batch_sizes.into_inner();
        for input in network.inputs()? {
            let declared = &signature.inputs[signature.input_index(&input.name)?];
            let range = ShapeRange {
                min: shape(declared, least),
                opt: shape(declared, most),
                max: shape(declared, most),
            };
            profile.set_shapes(&input.name, range)?;
        }
        Ok(profile)
    }

    fn calibrate(
        &self,
        config: &mut BuilderConfig,
        network: &Network,
        signature: &Signature,
        calibration: &Calibration,
    ) -> Result<CalibrationProblem> {
        let context = self.context.ok_or_else(|| Error::InvalidSetting {
            name: "calibrate",
            value: format!("{} samples", calibration.count()),
            reason: "calibration runs the network, and there is no GPU here".to_owned(),
        })?;
        let batch_size = calibrate::batch_size(signature, calibration);
        let profile = self.profile(network, signature, batch_size..=batch_size)?;
        let batches = SampleBatches::new(context, calibration, signature, network)?;
        let problem = batches.problem();
        config.calibrate(network, profile, Box::new(batches)).map_err(precision_refused(Precision::Int8))?;
        Ok(problem)
    }
}

fn configure(config: &mut BuilderConfig, options: &BuildOptions, graph: &GraphProto) -> Result<()> {
    config.set_profiling_verbosity(ProfilingVerbosity::Detailed)?;
    for flag in flags(options.precision, graph) {
        let refused = if *flag == BuilderFlag::Bf16 { Precision::Bf16 } else { options.precision };
        config.enable(*flag).map_err(precision_refused(refused))?;
    }
    if options.is_exact_fp32 {
        config.disable(BuilderFlag::Tf32)?;
    }
    if options.is_version_compatible {
        config.enable(BuilderFlag::VersionCompatible)?;
        // With the runtime inside, a plan is larger, has to be trusted as a program is, and can only be built where the
        // lean runtime is installed too. Whoever runs the plan has a runtime of their own.
        config.enable(BuilderFlag::ExcludeLeanRuntime)?;
    }
    if let Some(level) = options.optimization_level {
        config.set_optimization_level(level)?;
    }
    if let Some(count) = options.aux_streams {
        config.limit_aux_streams(count)?;
    }
    for (source, is_used) in &options.tactics {
        config.use_tactics(*source, *is_used)?;
    }
    if let Some(bytes) = options.workspace_bytes {
        config.limit_workspace(usize::try_from(bytes).unwrap_or(usize::MAX))?;
    }
    Ok(())
}

/// The flags of a precision. What eight bits leave may be BF16 in the model (`--rest bf16`), which takes a flag of its own.
fn flags(precision: Precision, graph: &GraphProto) -> &'static [BuilderFlag] {
    match precision {
        Precision::Fp32 => &[],
        Precision::Fp16 => &[BuilderFlag::Fp16],
        Precision::Bf16 => &[BuilderFlag::Bf16],
        Precision::Int8 if has_bf16(graph) => &[BuilderFlag::Fp16, BuilderFlag::Bf16, BuilderFlag::Int8],
        Precision::Int8 => &[BuilderFlag::Fp16, BuilderFlag::Int8],
    }
}

/// Whether inputs, weights or what nodes are told to make is BF16: all others follow from these.
fn has_bf16(graph: &GraphProto) -> bool {
    const BF16: i32 = OnnxDataType::Bfloat16 as i32;
    let of_input = |input: &ValueInfoProto| {
        let value = input.r#type.as_ref().and_then(|it| it.value.as_ref());
        matches!(value, Some(Type::TensorType(tensor)) if tensor.elem_type() == BF16)
    };
    let of_attribute = |attribute: &AttributeProto| {
        let names_type = matches!(attribute.name(), "to" | "dtype" | "output_dtype");
        (names_type && attribute.i() == i64::from(BF16))
            || attribute.t.as_ref().is_some_and(|tensor| tensor.data_type() == BF16)
            || attribute.g.iter().chain(&attribute.graphs).any(has_bf16)
    };
    graph.input.iter().any(of_input)
        || graph.initializer.iter().any(|weight| weight.data_type() == BF16)
        || graph.node.iter().flat_map(|node| &node.attribute).any(of_attribute)
}

/// What to do where this version has no flag for a precision.
fn precision_refused(precision: Precision) -> impl Fn(thalweg_nvidia::Error) -> Error {
    move |error| match error {
        thalweg_nvidia::Error::NotInThisVersion { version, .. }
            if precision == Precision::Bf16 && version.major < 10 =>
        {
            Error::InvalidSetting {
                name: "precision",
                value: precision.to_string(),
                reason: format!("TensorRT {version} has no BF16: use fp16, or TensorRT 10 or later"),
            }
        }
        thalweg_nvidia::Error::NotInThisVersion { version, .. } => Error::InvalidSetting {
            name: "precision",
            value: precision.to_string(),
            reason: format!(
                "TensorRT {version} takes the precision of each layer from the ONNX file: convert the model with `thalweg convert`, and use fp32 here"
            ),
        },
        other => other.into(),
    }
}

/// A whole shape as TensorRT counts.
pub(super) fn shape(tensor: &TensorSpec, batch_size: usize) -> Vec<i64> {
    let sizes = tensor.shape_at(batch_size).into_iter();
    sizes.map(|size| i64::try_from(size).unwrap_or(i64::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::proto::{NodeProto, TensorProto};
    use crate::model::zoo::Network;

    fn launch() -> GraphProto {
        Network::Launch.generate(0).graph.unwrap()
    }

    /// A node with this attribute.
    fn node(attribute: AttributeProto) -> NodeProto {
        NodeProto { attribute: vec![attribute], ..NodeProto::default() }
    }

    fn cast_to(data_type: OnnxDataType) -> NodeProto {
        let i = Some(i64::from(data_type as i32));
        node(AttributeProto { name: Some("to".to_owned()), i, ..AttributeProto::default() })
    }

    #[test]
    fn eight_bits_beside_bf16_take_the_flags_of_both() {
        let mixed = GraphProto { node: vec![cast_to(OnnxDataType::Bfloat16)], ..launch() };
        let both = [BuilderFlag::Fp16, BuilderFlag::Bf16, BuilderFlag::Int8];
        assert_eq!(flags(Precision::Int8, &mixed), both);
        assert_eq!(flags(Precision::Int8, &launch()), [BuilderFlag::Fp16, BuilderFlag::Int8]);
        assert_eq!(flags(Precision::Fp16, &mixed), [BuilderFlag::Fp16]);
        assert_eq!(flags(Precision::Fp32, &mixed), []);
    }

    #[test]
    fn bf16_is_seen_in_weights_and_in_what_nodes_make_also_within_subgraphs() {
        let data_type = Some(OnnxDataType::Bfloat16 as i32);
        let tensor = TensorProto { data_type, ..TensorProto::default() };
        let weight = GraphProto { initializer: vec![tensor.clone()], ..launch() };
        let constant = AttributeProto { t: Some(tensor), ..AttributeProto::default() };
        let constant = GraphProto { node: vec![node(constant)], ..launch() };
        let branch = GraphProto { node: vec![cast_to(OnnxDataType::Bfloat16)], ..GraphProto::default() };
        let branch = node(AttributeProto { g: Some(branch), ..AttributeProto::default() });
        let branch = GraphProto { node: vec![branch], ..launch() };
        for graph in [weight, constant, branch] {
            assert!(has_bf16(&graph));
        }
        let half = GraphProto { node: vec![cast_to(OnnxDataType::Float16)], ..launch() };
        assert!(!has_bf16(&half) && !has_bf16(&launch()));
    }
}
