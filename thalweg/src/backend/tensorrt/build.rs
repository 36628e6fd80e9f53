//! From a model to a plan.

use thalweg_nvidia::tensorrt::{
    Builder, BuilderConfig, BuilderFlag, HostMemory, Network, OptimizationProfile, ProfilingVerbosity,
    ShapeRange, parse_onnx,
};

use crate::backend::{BuildOptions, Precision};
use crate::error::Result;
use crate::model::{Model, Signature, TensorSpec};

/// Builds a plan for all batch sizes of `signature`, with kernels that are chosen for the largest.
///
/// # Errors
/// In TensorRT's own words.
pub(super) fn build(
    builder: &Builder,
    model: &Model,
    signature: &Signature,
    options: &BuildOptions,
) -> Result<HostMemory> {
    let mut network = builder.create_network()?;
    // Weights in files of their own come along in the bytes, so that it does not matter where the model lies.
    parse_onnx(&mut network, &model.embedded()?.with_fixed_shapes(signature)?.encode(), None)?;
    let mut config = builder.create_config()?;
    configure(&mut config, options)?;
    // Executors share a profile, and each of their graphs has a context of its own.
    config.share_profiles()?;
    let profile = profile(builder, &network, signature)?;
    config.add_optimization_profile(profile)?;
    Ok(builder.build(&network, &config)?)
}

fn configure(config: &mut BuilderConfig, options: &BuildOptions) -> Result<()> {
    config.set_profiling_verbosity(ProfilingVerbosity::Detailed)?;
    if options.precision == Precision::Fp16 {
        config.enable(BuilderFlag::Fp16)?;
    }
    if options.is_exact_fp32 {
        config.disable(BuilderFlag::Tf32)?;
    }
    if options.is_version_compatible {
        config.enable(BuilderFlag::VersionCompatible)?;
    }
    if let Some(level) = options.optimization_level {
        config.set_optimization_level(level)?;
    }
    if let Some(count) = options.aux_streams {
        config.limit_aux_streams(count)?;
    }
    if let Some(bytes) = options.workspace_bytes {
        config.limit_workspace(usize::try_from(bytes).unwrap_or(usize::MAX))?;
    }
    Ok(())
}

/// The range of every input with open dimensions.
fn profile(builder: &Builder, network: &Network, signature: &Signature) -> Result<OptimizationProfile> {
    let mut profile = builder.create_optimization_profile()?;
    let (least, most) = (*signature.batch_sizes.start(), *signature.batch_sizes.end());
    for input in network.inputs()? {
        let is_open = input.shape.as_ref().is_none_or(|shape| shape.contains(&-1));
        if !is_open {
            continue;
        }
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

/// A whole shape as TensorRT counts.
pub(super) fn shape(tensor: &TensorSpec, batch_size: usize) -> Vec<i64> {
    let sizes = tensor.shape_at(batch_size).into_iter();
    sizes.map(|size| i64::try_from(size).unwrap_or(i64::MAX)).collect()
}
