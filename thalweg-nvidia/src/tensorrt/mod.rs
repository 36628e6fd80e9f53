//! TensorRT of every version, without its headers: find it, build an engine, load it, run it.
//!
//! In: [`Places`] to look in, an ONNX model or a serialised engine. Out: safe objects named as NVIDIA names
//! them: [`Builder`] makes a [`Network`], a [`BuilderConfig`] and [`OptimizationProfile`]s and builds
//! [`HostMemory`]; a [`Runtime`] makes an [`Engine`] of it, and an engine makes [`ExecutionContext`]s.
//!
//! Every error carries TensorRT's own words. What an object needs is kept alive by it, so they may be dropped
//! in any order. Objects of the builder stay on one thread; engines are shared between threads; an execution
//! context moves between threads and is used by one at a time. To run, it becomes a
//! [`Compute`](crate::execution::Compute) with [`ExecutionContext::into_compute`], whose lanes own the memory
//! and the streams.

mod abi;
mod builder;
mod builder_config;
mod callbacks;
mod compute;
mod data_type;
mod engine;
mod engine_inspector;
mod execution_context;
mod host_memory;
mod network;
mod object;
mod onnx_parser;
mod optimization_profile;
mod plugins;
mod refitter;
mod runtime;
mod runtime_config;
mod session;
mod tactic_source;
mod timing_cache;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

pub use abi::Family;
pub use builder::Builder;
pub use builder_config::{BuilderConfig, BuilderFlag, ProfilingVerbosity, SharedProfiles};
pub use callbacks::{
    BuildProgress, CalibrationBatches, LayerTime, LogSink, MemoryAccount, ProgressSink, Severity,
};
pub use compute::InputShapes;
pub use data_type::DataType;
pub use engine::{Activations, Engine, EngineTensor, TensorLocation, TensorMode};
pub use engine_inspector::EngineInspector;
pub use execution_context::{ExecutionContext, LayerTimes, OutputShape};
pub use host_memory::HostMemory;
pub use network::{Network, NetworkTensor};
pub use onnx_parser::{ParserProblem, parse_onnx};
pub use optimization_profile::{OptimizationProfile, ShapeRange};
pub use refitter::Refitter;
pub use runtime::Runtime;
pub use runtime_config::{KernelSpecialization, OwnGraphs, RuntimeConfig};
pub use tactic_source::TacticSource;
pub use timing_cache::TimingCache;

use crate::cuda::{CudaContext, Driver};
use crate::error::{Error, Result};
use crate::kind::LibraryKind;
use crate::library::Library;
use crate::places::Places;
use crate::version::{self, Version};
use runtime::Target;
use session::Session;

/// Which of NVIDIA's three TensorRTs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// The whole of it.
    Full,
    /// TensorRT for RTX, which compiles for the GPU at run time and runs on consumer cards only.
    Rtx,
    /// Without the builder: it runs version-compatible engines that were built elsewhere.
    Lean,
}

impl Flavour {
    /// In the order in which [`TensorRt::open`] prefers them.
    const ALL: [Self; 3] = [Self::Full, Self::Rtx, Self::Lean];

    /// What NVIDIA calls it.
    pub const fn name(self) -> &'static str {
        self.library().name()
    }

    const fn library(self) -> LibraryKind {
        match self {
            Self::Full => LibraryKind::TensorRt,
            Self::Rtx => LibraryKind::TensorRtRtx,
            Self::Lean => LibraryKind::TensorRtLean,
        }
    }
}

/// An opened TensorRT. Clones are the same one.
#[derive(Clone)]
pub struct TensorRt {
    flavour: Flavour,
    session: Arc<Session>,
    /// Whether its own plugins are registered, or why not.
    plugins: Result<()>,
}

impl TensorRt {
    /// Opens the full TensorRT, else that for RTX, else the lean runtime, with the ONNX parser of the same
    /// version; those in [`Places::directories`] before all others. Where there is a CUDA driver, it is started
    /// (`cuInit`); where there is none, building may still work.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::CannotLoad`] of the full TensorRT where no place has any;
    /// [`Error::UnsupportedTensorRt`] for a version whose interface is not known.
    pub fn open(places: &Places) -> Result<Self> {
        Self::open_any(places, None)
    }

    /// As [`open`](Self::open), with somebody who takes each line that TensorRT logs. TensorRT keeps the
    /// first logger of a process for whatever it logs outside of an object, so open it once.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_log(places: &Places, sink: &LogSink) -> Result<Self> {
        Self::open_any(places, Some(sink))
    }

    /// Opens this one and no other.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_flavour(flavour: Flavour, places: &Places, sink: Option<LogSink>) -> Result<Self> {
        let library = Library::open(flavour.library(), places)?;
        // Without a started driver TensorRT returns addresses that are no objects, see `object`.
        let driver = Driver::open(places).map(|_| ());
        let beside = beside(&library, places);
        // Before the parser: that of 8 links to the plugins, which the loader finds only on its own path or
        // where they are loaded already.
        let plugins = open_plugins(flavour, &library, &beside);
        let parser = open_parser(flavour, &library, &beside);
        let session = Arc::new(Session::new(library, parser, driver, sink)?);
        let plugins = plugins.and_then(|plugins| plugins::register_standard(&session, &plugins));
        Ok(Self { flavour, session, plugins })
    }

    fn open_any(places: &Places, sink: Option<&LogSink>) -> Result<Self> {
        // Whoever names a folder wants the TensorRT in it, though a fuller one may lie elsewhere.
        let (named, others): (Vec<_>, Vec<_>) =
            Flavour::ALL.into_iter().partition(|flavour| places.names(flavour.library()));
        let mut first = None;
        for flavour in named.into_iter().chain(others) {
            match Self::open_flavour(flavour, places, sink.cloned()) {
                Err(error @ Error::NotFound { .. }) => first = first.or(Some(error)),
                opened_or_broken => return opened_or_broken,
            }
        }
        Err(first.expect("bug: the loop returns or sets it"))
    }

    /// Which of the three it is.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.session.abi().version
    }

    /// The versions whose interface it shares.
    pub fn family(&self) -> Family {
        self.session.abi().family
    }

    /// What to tell where this version is newer than the tables: it runs with the newest that are known.
    pub fn abi_note(&self) -> Option<String> {
        self.session.abi().note()
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        self.session.path()
    }

    /// Whether ONNX models can be parsed.
    ///
    /// # Errors
    /// Why not: [`Error::NotFound`] or [`Error::CannotLoad`] of the parser, or [`Error::MixedVersions`].
    pub fn check_parser(&self) -> Result<()> {
        self.session.parser().map(|_| ())
    }

    /// Whether TensorRT's own plugins are there and registered, as they are wherever its library of plugins is.
    ///
    /// # Errors
    /// Why not: [`Error::NotFound`] or [`Error::CannotLoad`] of the plugins, [`Error::NoPluginLibrary`] of the lean
    /// runtime and that for RTX, [`Error::TensorRt`] where it refused.
    pub fn check_plugins(&self) -> Result<()> {
        self.plugins.clone()
    }

    /// Loads a library of plugins, which then stays loaded. Builders and runtimes that are made afterwards know
    /// them. One for TensorRT 8 registers them itself as it is loaded; later ones may also leave that to
    /// TensorRT's registry.
    ///
    /// A plugin is code: load only what comes from somebody trusted.
    ///
    /// # Errors
    /// [`Error::CannotLoadPlugins`] with what the loader or the registry said.
    pub fn load_plugins(&self, file: &Path) -> Result<()> {
        plugins::load(&self.session, file)
    }

    /// A runtime to load engines with, on this device.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT makes none.
    pub fn runtime_on(&self, device: &Arc<CudaContext>) -> Result<Runtime> {
        Runtime::new(&self.session, Target { device: Some(device), account: None })
    }

    /// The same, with an account of the device memory that its engines and their contexts take: weights,
    /// activations unless the caller gives them, and what else a context keeps.
    ///
    /// # Errors
    /// As [`runtime_on`](Self::runtime_on).
    #[doc(alias = "IGpuAllocator")]
    pub fn counted_runtime_on(&self, device: &Arc<CudaContext>, account: &MemoryAccount) -> Result<Runtime> {
        Runtime::new(&self.session, Target { device: Some(device), account: Some(account) })
    }

    /// A runtime on CUDA's first device, or on none where TensorRT allows that, as that for RTX does.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT makes none, as all but that for RTX without a driver.
    pub fn runtime(&self) -> Result<Runtime> {
        Runtime::new(&self.session, Target { device: None, account: None })
    }

    /// A builder to make engines with, for this device.
    ///
    /// # Errors
    /// [`Error::NoBuilder`] for the lean runtime, [`Error::TensorRt`] where TensorRT makes none.
    pub fn builder_on(&self, device: &Arc<CudaContext>) -> Result<Builder> {
        self.make_builder(Target { device: Some(device), account: None })
    }

    /// The same, with an account of the device memory that its builds take. Where the account's limit is reached,
    /// TensorRT looks for kernels that need less, and fails where there are none.
    ///
    /// # Errors
    /// As [`builder_on`](Self::builder_on).
    #[doc(alias = "IGpuAllocator")]
    pub fn counted_builder_on(&self, device: &Arc<CudaContext>, account: &MemoryAccount) -> Result<Builder> {
        self.make_builder(Target { device: Some(device), account: Some(account) })
    }

    /// A builder for CUDA's first device, or for none where TensorRT allows that, as that for RTX does.
    ///
    /// # Errors
    /// As [`builder_on`](Self::builder_on).
    pub fn builder(&self) -> Result<Builder> {
        self.make_builder(Target { device: None, account: None })
    }

    fn make_builder(&self, target: Target<'_>) -> Result<Builder> {
        if self.flavour == Flavour::Lean {
            return Err(Error::NoBuilder { path: self.path().to_owned() });
        }
        Builder::new(&self.session, target)
    }
}

/// Where the other parts of a TensorRT are: in its own folder first.
fn beside(tensorrt: &Library, places: &Places) -> Places {
    let mut places = places.clone();
    places.directories.splice(..0, tensorrt.path().parent().map(Path::to_owned));
    places
}

/// The plugins that go with a TensorRT.
fn open_plugins(flavour: Flavour, tensorrt: &Library, places: &Places) -> Result<Library> {
    let kind = LibraryKind::TensorRtPlugins;
    match (flavour, tensorrt.major()) {
        (Flavour::Full, Some(major)) => Library::open_major(kind, major, places),
        _ => Err(Error::NoPluginLibrary { tensorrt: flavour.library() }),
    }
}

/// The parser that goes with a TensorRT.
fn open_parser(flavour: Flavour, tensorrt: &Library, places: &Places) -> Result<Library> {
    let kind = match flavour {
        Flavour::Full => LibraryKind::OnnxParser,
        Flavour::Rtx => LibraryKind::OnnxParserRtx,
        Flavour::Lean => return Err(Error::NoBuilder { path: tensorrt.path().to_owned() }),
    };
    let parser = tensorrt
        .major()
        .map_or_else(|| Library::open(kind, places), |major| Library::open_major(kind, major, places))?;
    check_same_release(tensorrt, &parser)?;
    Ok(parser)
}

/// Refuses a parser of another release. It has no version of its own, so its file's name has to tell, where
/// it does.
fn check_same_release(tensorrt: &Library, parser: &Library) -> Result<()> {
    let version = version::tensorrt(tensorrt)?;
    let expected = [Some(version.major), Some(version.minor), version.patch];
    let named = release_in_name(parser.path());
    if named.iter().zip(expected).all(|(named, expected)| expected.is_none_or(|expected| *named == expected))
    {
        return Ok(());
    }
    let named: Vec<_> = named.iter().map(ToString::to_string).collect();
    Err(Error::MixedVersions {
        tensorrt: tensorrt.path().to_owned(),
        version,
        parser: parser.path().to_owned(),
        parser_version: named.join("."),
    })
}

/// The numbers at the end of a file's name, links followed: `libnvonnxparser.so.10.16.1` gives 10, 16, 1.
fn release_in_name(path: &Path) -> Vec<u32> {
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let numbers = name.split_once(".so.").map(|(_, numbers)| numbers.to_owned()).unwrap_or_default();
    numbers.split('.').map_while(|number| number.parse().ok()).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::{self, Folder};

    fn error_of(result: Result<TensorRt>) -> Error {
        result.err().expect("it cannot be opened")
    }

    #[test]
    fn a_machine_without_tensorrt_is_an_error_that_says_how_to_get_it() {
        let folder = Folder::new("no-tensorrt");
        let text = error_of(TensorRt::open(&folder.places())).to_string();
        assert!(text.contains("libnvinfer.so.11"), "{text}");
        assert!(text.contains("pip install tensorrt"), "{text}");
    }

    #[test]
    fn the_lean_runtime_in_a_named_folder_comes_before_a_full_one_elsewhere() {
        let folder = Folder::new("lean-named");
        folder.build("libnvinfer_lean.so.10", &stand_in::tensorrt(101_601));
        let elsewhere = Folder::new("full-elsewhere");
        std::fs::create_dir(elsewhere.path().join("tensorrt_libs")).unwrap();
        elsewhere.build("tensorrt_libs/libnvinfer.so.10", &stand_in::tensorrt(100_000));
        let places = Places { site_packages: vec![elsewhere.path().to_owned()], ..folder.places() };
        let opened = TensorRt::open(&places).unwrap();
        assert_eq!((opened.flavour(), opened.version().to_string().as_str()), (Flavour::Lean, "10.16.1"));
        let without = Places { directories: Vec::new(), ..places };
        assert_eq!(TensorRt::open(&without).unwrap().flavour(), Flavour::Full);
    }

    #[test]
    fn an_unknown_major_version_is_refused_with_what_is_supported() {
        let folder = Folder::new("twelve");
        folder.build("libnvinfer.so.11", &stand_in::tensorrt(120_100));
        let error = error_of(TensorRt::open(&folder.places()));
        assert!(matches!(error, Error::UnsupportedTensorRt { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("12.1.0"), "{text}");
        assert!(text.contains("8.5 to 8.6, 10.0 to 10.16 and 11.0 to 11.4"), "{text}");
    }

    #[test]
    fn a_newer_minor_version_opens_and_says_so() {
        let folder = Folder::new("newer");
        folder.build("libnvinfer.so.10", &stand_in::tensorrt(103_002));
        let opened = TensorRt::open(&folder.places()).unwrap();
        assert_eq!(opened.version().to_string(), "10.30.2");
        assert_eq!((opened.flavour(), opened.family()), (Flavour::Full, Family::TensorRt10));
        assert!(opened.abi_note().unwrap().contains("newer than 10.16"));
        assert!(matches!(opened.check_parser(), Err(Error::NotFound { .. })));
    }

    #[test]
    fn a_parser_of_another_release_is_refused_with_both_named() {
        let folder = Folder::new("mixed");
        folder.build("libnvinfer.so.10", &stand_in::tensorrt(101_601));
        folder.build("libnvonnxparser.so.10.13.2", "");
        let link = folder.path().join("libnvonnxparser.so.10");
        std::os::unix::fs::symlink("libnvonnxparser.so.10.13.2", link).unwrap();
        let error = TensorRt::open(&folder.places()).unwrap().check_parser().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("10.16.1") && text.contains("10.13.2"), "{text}");
    }

    #[test]
    fn a_parser_whose_name_tells_only_the_major_version_is_taken() {
        let folder = Folder::new("same");
        folder.build("libnvinfer.so.10", &stand_in::tensorrt(101_601));
        folder.build("libnvonnxparser.so.10", "");
        assert_eq!(TensorRt::open(&folder.places()).unwrap().check_parser(), Ok(()));
    }

    #[test]
    fn a_builder_that_is_null_is_an_error_with_the_drivers_reason() {
        let folder = Folder::new("null-builder");
        let source = format!(
            "{}\n#[no_mangle] pub extern \"C\" fn createInferBuilder_INTERNAL(_: usize, _: i32) -> usize {{ 0x228 }}",
            stand_in::tensorrt(101_601)
        );
        folder.build("libnvinfer.so.10", &source);
        let error = TensorRt::open(&folder.places()).unwrap().builder().err().unwrap();
        let text = error.to_string();
        assert!(text.starts_with("TensorRT cannot create a builder: "), "{text}");
        assert!(text.contains("CUDA driver"), "{text}");
    }
}
