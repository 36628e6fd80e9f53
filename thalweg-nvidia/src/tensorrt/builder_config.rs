//! `IBuilderConfig`: how an engine is built.

use std::marker::PhantomData;
use std::sync::Arc;

use super::abi::{Abi, Family, calls};
use super::callbacks::{CalibrationBatches, Calibrator, ProgressMonitor, ProgressSink};
use super::data_type::DataType;
use super::network::Network;
use super::object::{Object, Owned};
use super::optimization_profile::OptimizationProfile;
use super::tactic_source::TacticSource;
use super::timing_cache::TimingCache;
use crate::error::{Error, Result};

/// `MemoryPoolType::kWORKSPACE`
const WORKSPACE: i32 = 0;

/// How an engine is built.
#[doc(alias = "IBuilderConfig")]
pub struct BuilderConfig {
    // First, because it refers to all others.
    owned: Owned,
    timing_cache: Option<Arc<Owned>>,
    calibration: Option<Calibration>,
    progress: Option<ProgressMonitor>,
    /// Keeps the profiles that were added.
    builder: Arc<Owned>,
    _on_one_thread: PhantomData<*const ()>,
}

/// Where INT8 gets its ranges from.
struct Calibration {
    calibrator: Calibrator,
    profile: OptimizationProfile,
}

/// Something that a build may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BuilderFlag {
    /// Layers may compute in FP16. TensorRT 8 and 10; later the model itself says so.
    Fp16,
    /// Layers may compute in INT8. TensorRT 8 and 10; later the model itself says so.
    Int8,
    /// Layers may compute in BF16. TensorRT 10; later the model itself says so.
    Bf16,
    /// FP32 matrix products may round their inputs to TF32. On by default.
    Tf32,
    /// The engine can be given other weights later, see [`Refitter`](super::Refitter).
    Refit,
    /// The engine runs on later versions too.
    VersionCompatible,
    /// A version-compatible engine does not bring the lean runtime along.
    ExcludeLeanRuntime,
}

impl BuilderFlag {
    /// Its number in `BuilderFlag` of NvInfer.h: each family counts anew.
    fn number(self, abi: Abi) -> Result<i32> {
        let numbers = match self {
            Self::Fp16 => [Some(0), Some(0), None, None],
            Self::Int8 => [Some(1), Some(1), None, None],
            Self::Bf16 => [None, Some(17), None, None],
            Self::Tf32 => [Some(7), Some(6), Some(6), Some(6)],
            Self::Refit => [Some(5), Some(4), Some(4), Some(4)],
            Self::VersionCompatible => [Some(15), Some(13), Some(12), Some(12)],
            Self::ExcludeLeanRuntime => [Some(16), Some(14), Some(13), Some(13)],
        };
        // Both came with 8.6.
        let is_of_8_6 = matches!(self, Self::VersionCompatible | Self::ExcludeLeanRuntime);
        let is_too_new = is_of_8_6 && abi.family == Family::TensorRt8 && abi.version.minor < 6;
        numbers[abi.family as usize].filter(|_| !is_too_new).ok_or(Error::NotInThisVersion {
            method: self.name(),
            version: abi.version,
            since: is_too_new.then_some((8, 6)),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fp16 => "BuilderFlag::kFP16",
            Self::Int8 => "BuilderFlag::kINT8",
            Self::Bf16 => "BuilderFlag::kBF16",
            Self::Tf32 => "BuilderFlag::kTF32",
            Self::Refit => "BuilderFlag::kREFIT",
            Self::VersionCompatible => "BuilderFlag::kVERSION_COMPATIBLE",
            Self::ExcludeLeanRuntime => "BuilderFlag::kEXCLUDE_LEAN_RUNTIME",
        }
    }
}

/// What an engine remembers of its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfilingVerbosity {
    /// Their names; the default.
    LayerNamesOnly,
    /// Nothing.
    Nothing,
    /// Names, types, shapes and kernels.
    Detailed,
}

/// Whether the execution contexts of an engine may use the same optimization profile at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedProfiles {
    /// They may.
    Yes,
    /// They may not: build the engine with one profile for each context (8.5).
    OnePerContext,
}

impl BuilderConfig {
    /// `owned` is an `IBuilderConfig` of this builder's.
    pub(crate) fn new(owned: Owned, builder: Arc<Owned>) -> Self {
        let (timing_cache, calibration, progress) = (None, None, None);
        Self { owned, timing_cache, calibration, progress, builder, _on_one_thread: PhantomData }
    }

    pub(crate) fn object(&self) -> Object {
        self.owned.object()
    }

    pub(crate) fn owned(&self) -> &Owned {
        &self.owned
    }

    /// That calibration will read no more of each input than was checked.
    ///
    /// # Errors
    /// [`Error::OtherNetwork`] where this is not the network that [`calibrate`](Self::calibrate) saw, or it
    /// has other shapes now.
    pub(crate) fn check_calibration(&self, network: &Network) -> Result<()> {
        let Some(Calibration { calibrator, profile }) = &self.calibration else { return Ok(()) };
        let is_same = calibration_sizes(network, profile)? == calibrator.sizes();
        if is_same { Ok(()) } else { Err(Error::OtherNetwork) }
    }

    /// Allows something.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] where this version has no such flag.
    #[doc(alias = "setFlag")]
    pub fn enable(&mut self, flag: BuilderFlag) -> Result<()> {
        let number = flag.number(self.object().abi())?;
        // SAFETY: the configuration lives and stays on this thread, as in all methods here.
        self.owned.instruct("set a builder flag", |config| unsafe {
            calls::builder_config::set_flag(config, number)
        })
    }

    /// Forbids something.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] where this version has no such flag.
    #[doc(alias = "clearFlag")]
    pub fn disable(&mut self, flag: BuilderFlag) -> Result<()> {
        let number = flag.number(self.object().abi())?;
        // SAFETY: see `enable`.
        self.owned.instruct("clear a builder flag", |config| unsafe {
            calls::builder_config::clear_flag(config, number)
        })
    }

    /// Whether something is allowed. What this version has no flag for is not.
    ///
    /// # Errors
    /// None that a supported version has.
    #[doc(alias = "getFlag")]
    pub fn is_enabled(&self, flag: BuilderFlag) -> Result<bool> {
        let Ok(number) = flag.number(self.object().abi()) else { return Ok(false) };
        // SAFETY: see `enable`.
        unsafe { calls::builder_config::flag(self.object(), number) }
    }

    /// Limits the device memory that one kernel may need to compute in. Without a limit it is all there is.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "setMemoryPoolLimit")]
    pub fn limit_workspace(&mut self, byte_count: usize) -> Result<()> {
        // SAFETY: see `enable`.
        self.owned.instruct("limit the workspace", |config| unsafe {
            calls::builder_config::set_memory_pool_limit(config, WORKSPACE, byte_count)
        })
    }

    /// The most device memory that one kernel may need to compute in, in bytes.
    ///
    /// # Errors
    /// None that a supported version has.
    #[doc(alias = "getMemoryPoolLimit")]
    pub fn workspace_limit(&self) -> Result<usize> {
        // SAFETY: see `enable`.
        unsafe { calls::builder_config::memory_pool_limit(self.object(), WORKSPACE) }
    }

    /// How long to look for faster kernels, from 0 to 5; 3 by default.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] before 8.6, [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "setBuilderOptimizationLevel")]
    pub fn set_optimization_level(&mut self, level: u8) -> Result<()> {
        // SAFETY: see `enable`.
        self.owned.instruct("set the optimization level", |config| unsafe {
            calls::builder_config::set_builder_optimization_level(config, level.into())
        })
    }

    /// How many streams beside its own a context may use.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] before 8.6, [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "setMaxAuxStreams")]
    pub fn limit_aux_streams(&mut self, count: u8) -> Result<()> {
        // SAFETY: see `enable`.
        self.owned.instruct("limit the auxiliary streams", |config| unsafe {
            calls::builder_config::set_max_aux_streams(config, count.into())
        })
    }

    /// Lets the builder take kernels from somewhere, or not.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] where this version has no such source, [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "setTacticSources")]
    pub fn use_tactics(&mut self, source: TacticSource, is_used: bool) -> Result<()> {
        let bit = source.bit(self.object().abi())?;
        // SAFETY: see `enable`.
        let sources = unsafe { calls::builder_config::tactic_sources(self.object()) }?;
        let changed = if is_used { sources | bit } else { sources & !bit };
        // SAFETY: see `enable`.
        self.owned.agree("use these tactic sources", |config| unsafe {
            calls::builder_config::set_tactic_sources(config, changed)
        })
    }

    /// Whether the builder takes kernels from somewhere. What this version does not know is not used.
    ///
    /// # Errors
    /// None that a supported version has.
    #[doc(alias = "getTacticSources")]
    pub fn uses_tactics(&self, source: TacticSource) -> Result<bool> {
        let Ok(bit) = source.bit(self.object().abi()) else { return Ok(false) };
        // SAFETY: see `enable`.
        Ok(unsafe { calls::builder_config::tactic_sources(self.object()) }? & bit != 0)
    }

    /// What the engine remembers of its layers.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "setProfilingVerbosity")]
    pub fn set_profiling_verbosity(&mut self, verbosity: ProfilingVerbosity) -> Result<()> {
        let number = match verbosity {
            ProfilingVerbosity::LayerNamesOnly => 0,
            ProfilingVerbosity::Nothing => 1,
            ProfilingVerbosity::Detailed => 2,
        };
        // SAFETY: see `enable`.
        self.owned.instruct("set the profiling verbosity", |config| unsafe {
            calls::builder_config::set_profiling_verbosity(config, number)
        })
    }

    /// Lets the contexts of the engine share profiles, where this version has to be asked for that, and tells
    /// whether they will.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "kPROFILE_SHARING_0806")]
    pub fn share_profiles(&mut self) -> Result<SharedProfiles> {
        // Number of `PreviewFeature::kPROFILE_SHARING_0806` in NvInfer.h of 8.6. It is always on from 10 on.
        const PROFILE_SHARING: i32 = 2;
        let abi = self.object().abi();
        match (abi.family, abi.version.minor) {
            (Family::TensorRt8, ..6) => Ok(SharedProfiles::OnePerContext),
            (Family::TensorRt8, _) => {
                // SAFETY: see `enable`.
                self.owned.instruct("share optimization profiles", |config| unsafe {
                    calls::builder_config::set_preview_feature(config, PROFILE_SHARING, true)
                })?;
                Ok(SharedProfiles::Yes)
            }
            _ => Ok(SharedProfiles::Yes),
        }
    }

    /// Adds a profile and returns its number in the engine.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT refuses it, [`Error::OtherBuilder`] where it is not of the same
    /// builder.
    #[doc(alias = "addOptimizationProfile")]
    #[expect(clippy::needless_pass_by_value, reason = "so that its shapes are set before and not after")]
    pub fn add_optimization_profile(&mut self, profile: OptimizationProfile) -> Result<usize> {
        profile.check_builder(&self.builder)?;
        let address = profile.object().as_ptr();
        // SAFETY: see `enable`; the profile lives as long as its builder.
        let (index, said) = self
            .owned
            .listen(|config| unsafe { calls::builder_config::add_optimization_profile(config, address) })?;
        usize::try_from(index).map_err(|_| self.owned.session().refusal("add the optimization profile", said))
    }

    /// Makes builds use and fill a cache of kernel timings: an old one, or a new one for no bytes.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where the bytes are of another version or GPU.
    #[doc(alias = "createTimingCache")]
    #[doc(alias = "setTimingCache")]
    pub fn use_timing_cache(&mut self, content: &[u8]) -> Result<TimingCache> {
        let (address, said) = self.owned.listen(|config| {
            // SAFETY: see `enable`; the bytes live and are copied.
            unsafe { calls::builder_config::create_timing_cache(config, content.as_ptr(), content.len()) }
        })?;
        // SAFETY: NVIDIA gives the caller a new `ITimingCache`.
        let owned = unsafe { self.builder.child(address) };
        let owned = owned.ok_or_else(|| self.owned.session().refusal("read the timing cache", said))?;
        // SAFETY: it is an `ITimingCache`.
        let cache = unsafe { TimingCache::new(owned) };
        let cache_address = cache.owned().object().as_ptr();
        self.owned.agree("use the timing cache", |config| {
            // SAFETY: see `enable`; the cache lives as long as this configuration.
            unsafe { calls::builder_config::set_timing_cache(config, cache_address, false) }
        })?;
        self.timing_cache = Some(Arc::clone(cache.owned()));
        Ok(cache)
    }

    /// Tells how far a build is, and lets the sink cancel it.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] before 10: a build of 8 tells nothing and cannot be cancelled.
    #[doc(alias = "setProgressMonitor")]
    pub fn report_progress(&mut self, sink: ProgressSink) -> Result<()> {
        let monitor = ProgressMonitor::new(sink, Arc::clone(self.owned.session().panics()));
        // SAFETY: see `enable`; the monitor lives as long as this configuration.
        self.owned.instruct("report progress", |config| unsafe {
            calls::builder_config::set_progress_monitor(config, monitor.as_ptr())
        })?;
        self.progress = Some(monitor);
        Ok(())
    }

    /// Takes the ranges of INT8 from samples. Their shapes are the `opt` shapes of the profile, or the
    /// network's own where they are fixed. It allows INT8 too.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] in 11 and RTX, where the model itself has the ranges;
    /// [`Error::ShapeDoesNotFit`] where the profile has no shape for an input with open dimensions,
    /// [`Error::OtherBuilder`] where it is not of the same builder.
    #[doc(alias = "setInt8Calibrator")]
    #[doc(alias = "setCalibrationProfile")]
    pub fn calibrate(
        &mut self,
        network: &Network,
        profile: OptimizationProfile,
        source: Box<dyn CalibrationBatches>,
    ) -> Result<()> {
        profile.check_builder(&self.builder)?;
        self.enable(BuilderFlag::Int8)?;
        let sizes = calibration_sizes(network, &profile)?;
        let panics = Arc::clone(self.owned.session().panics());
        let calibrator = Calibrator::new(self.object().abi(), source, sizes, panics);
        // SAFETY: see `enable`; the calibrator lives as long as this configuration.
        self.owned.instruct("set the calibrator", |config| unsafe {
            calls::builder_config::set_int8_calibrator(config, calibrator.as_ptr())
        })?;
        let address = profile.object().as_ptr();
        let is_fixed = profile.ranges().is_empty();
        self.calibration = Some(Calibration { calibrator, profile });
        if is_fixed {
            // There is no shape to choose.
            return Ok(());
        }
        // SAFETY: see `enable`; the profile lives as long as its builder.
        self.owned.agree("set the calibration profile", |config| unsafe {
            calls::builder_config::set_calibration_profile(config, address)
        })
    }
}

/// How many bytes calibration reads of each input.
fn calibration_sizes(network: &Network, profile: &OptimizationProfile) -> Result<Vec<(String, usize)>> {
    let size = |name: &str, data_type: DataType, own: Option<Vec<i64>>| {
        let range = profile.ranges().iter().find(|(input, _)| input == name);
        let shape = range.map(|(_, range)| range.opt.clone()).or(own).unwrap_or_default();
        data_type.byte_count(&shape).ok_or(Error::ShapeDoesNotFit { shape })
    };
    let inputs = network.inputs()?.into_iter();
    inputs.map(|input| Ok((input.name.clone(), size(&input.name, input.data_type, input.shape)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    fn number(flag: BuilderFlag, family: Family, major: u32, minor: u32) -> Result<i32> {
        flag.number(Abi { family, version: Version { major, minor, patch: Some(0) } })
    }

    #[test]
    fn flags_have_the_numbers_of_their_family() {
        assert_eq!(number(BuilderFlag::Tf32, Family::TensorRt8, 8, 6), Ok(7));
        assert_eq!(number(BuilderFlag::Tf32, Family::TensorRt10, 10, 0), Ok(6));
        assert_eq!(number(BuilderFlag::VersionCompatible, Family::TensorRt8, 8, 6), Ok(15));
        assert_eq!(number(BuilderFlag::VersionCompatible, Family::Rtx1, 1, 7), Ok(12));
    }

    #[test]
    fn a_flag_that_a_version_lacks_is_an_error_and_not_another_flag() {
        let error = number(BuilderFlag::VersionCompatible, Family::TensorRt8, 8, 5).unwrap_err();
        let text = "TensorRT 8.5.0 has no BuilderFlag::kVERSION_COMPATIBLE: it came with 8.6";
        assert_eq!(error.to_string(), text);
        let error = number(BuilderFlag::Fp16, Family::TensorRt11, 11, 4).unwrap_err();
        assert_eq!(error.to_string(), "TensorRT 11.4.0 has no BuilderFlag::kFP16");
    }
}
