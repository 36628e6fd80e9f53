//! The commands, one file each.

pub mod accuracy;
pub mod bench;
pub mod build;
mod builds;
pub mod compare;
pub mod convert;
pub mod diagnose;
pub mod doctor;
pub mod export;
mod input_type;
pub mod inputs;
pub mod inspect;
mod loss;
mod lower;
pub mod model;
mod network;
mod next;
pub mod predict;
pub mod report;
mod route;
pub mod top;
pub mod tune;
mod variant;
pub mod watch;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::CommandFactory as _;
use thalweg::backend::{Backend, CounterChoice, DeviceSpec, Precision, Surroundings};
use thalweg::engine::Cache;
use thalweg::export::shell_word as quoted;
use thalweg::model::{DataType, Model};
use thalweg::units::{Bytes, Nanos};

use crate::args::{BuilderArgs, CacheArgs, Cli, GpuArgs, ShapeArgs, Target, WorkloadArgs};
use crate::output::{Output, print};

/// Names of the files in an output folder.
pub mod file {
    pub const MEASUREMENT: &str = "measurement.json";
    pub const ACCURACY: &str = "accuracy.json";
    pub const DIAGNOSIS: &str = "diagnosis.json";
    pub const OUTCOME: &str = "outcome.json";
    pub const WATCHED: &str = "watched.json";
    pub const BUILDS: &str = "builds.json";
    pub const TUNED: &str = thalweg::tune::TUNED_FILE;
    pub const ENGINE: &str = "tuned.engine";
    pub const REPORT: &str = "report.html";
    pub const TRACE: &str = "trace.json";
}

pub fn print_completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "thalweg", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub fn print_manual() -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    print(&String::from_utf8_lossy(&page))
}

fn input_shapes(args: &ShapeArgs) -> BTreeMap<String, Vec<usize>> {
    args.shapes.iter().cloned().collect()
}

/// The type of floating-point inputs that a model declares.
fn own_input_type(model: &Model) -> DataType {
    let has_half = model.inputs().iter().any(|input| input.data_type == DataType::F16);
    if has_half { DataType::F16 } else { DataType::F32 }
}

/// What a path names: the first of these files that is in it, where it is a folder, else itself.
fn in_folder(path: &Path, names: &[&str]) -> PathBuf {
    let inside = names.iter().map(|name| path.join(name)).find(|file| file.is_file());
    inside.unwrap_or_else(|| path.to_owned())
}

/// Why outputs are not compared on a simulated device.
const LOSSLESS: &str =
    "--max-loss is held against outputs, and a simulated device computes none: leave it out";

/// Refuses a precision that simulated devices have no speed for.
fn check_precision(args: &BuilderArgs, device: &DeviceSpec) -> anyhow::Result<()> {
    ensure!(
        !args.precision.contains(&Target::Fp32) || !device.is_simulated(),
        "--precision fp32: a simulated device computes in FP16, in which it was fitted to a real one, or in INT8 by the data \
         sheet; name fp16 or int8, or leave it out"
    );
    Ok(())
}

/// A model is not written over the one that it is made of.
fn check_other(model: &Path, output: &Path) -> anyhow::Result<()> {
    let is_itself = model.canonicalize().is_ok_and(|model| output.canonicalize().is_ok_and(|it| it == model));
    ensure!(!is_itself, "{} is the model itself: write to another file", output.display());
    Ok(())
}

fn milliseconds(milliseconds: f64) -> Nanos {
    Nanos::from_seconds(milliseconds / 1e3)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from float saturate")]
fn gigabytes(gigabytes: f64) -> u64 {
    (gigabytes * 1e9) as u64
}

/// A folder with TensorRT to look into before all others but that of `--tensorrt-dir`.
const TENSORRT_DIR: &str = "THALWEG_TENSORRT_DIR";

/// What profilers set in the programs whose ranges they read (NVTX's convention).
const NVTX_PROFILER: &str = "NVTX_INJECTION64_PATH";

/// Where to look for a GPU's libraries.
fn surroundings(args: &GpuArgs) -> Surroundings {
    let of_environment = env::var_os(TENSORRT_DIR).map(PathBuf::from);
    Surroundings {
        directories: args.tensorrt_dir.iter().cloned().chain(of_environment).collect(),
        site_packages: site_packages(),
        plugins: args.plugins.clone(),
        device: args.device.clone(),
        counters: CounterChoice::default(),
        timing_cache: None,
        has_profiler: env::var_os(NVTX_PROFILER).is_some(),
    }
}

/// The same for a command that measures, and reads these counters where nobody says which.
fn surroundings_of(args: &WorkloadArgs, usual: CounterChoice) -> Surroundings {
    let timing_cache = args.builder.timing_cache.clone();
    Surroundings { counters: args.counters.unwrap_or(usual), timing_cache, ..surroundings(&args.gpu) }
}

/// Where the active Python keeps its packages, NVIDIA's wheels among them; nowhere without a Python.
fn site_packages() -> Vec<PathBuf> {
    let question = "import site, sys; print('\\n'.join(p for p in sys.path if p.endswith('-packages')))";
    let answer = Command::new("python3").args(["-c", question]).output();
    let answer = answer.ok().filter(|answer| answer.status.success()).map(|answer| answer.stdout);
    String::from_utf8_lossy(&answer.unwrap_or_default()).lines().map(PathBuf::from).collect()
}

/// The builder's flag for a precision.
fn flag(target: Target) -> anyhow::Result<Precision> {
    target.flag().with_context(|| {
        format!(
            "--precision {target} is no flag of a builder: convert the model with `thalweg convert` first"
        )
    })
}

/// The folder of built engines, for a backend that is worth one. A default folder that cannot be made is no reason to
/// fail: containers often have a read-only home.
fn cache(args: &CacheArgs, backend: &dyn Backend, output: &Output) -> anyhow::Result<Option<Cache>> {
    if args.no_cache || backend.build_identity().is_none() {
        return Ok(None);
    }
    let limited = |cache: Cache| match args.cache_limit_gb {
        Some(limit) => cache.with_limit(Bytes(gigabytes(limit))),
        None => cache,
    };
    if let Some(folder) = &args.cache {
        return Ok(Some(limited(Cache::open(folder)?)));
    }
    let Some(folder) = default_cache_folder() else { return Ok(None) };
    Ok(match Cache::open(&folder) {
        Ok(cache) => Some(limited(cache)),
        Err(error) => {
            let error = anyhow::Error::from(error);
            output.warning(&format!("{error:#}: engines are not kept; name another folder with --cache"));
            None
        }
    })
}

/// By the XDG Base Directory Specification.
fn default_cache_folder() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    caches.map(|folder| folder.join("thalweg"))
}
