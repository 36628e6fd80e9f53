//! From a model to an engine that is ready to run.
//!
//! In: a backend, an [`EngineRequest`], and the [`Cache`] that may have the engine already. Out: an [`Engine`] with
//! its bytes, and where they came from. Running it is left to [`pool`](crate::pool).

mod cache;
mod prune;
mod stored;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::backend::{
    Backend, BuildEvent, BuildOptions, BuildOrder, BuildSpec, BuildWatch, Calibration, Engine,
    SerializedEngine,
};
use crate::error::{Error, Result};
use crate::model::{Model, as_text};
use crate::units;

pub use cache::Cache;
pub use stored::{EngineOrigin, StoredEngine};

/// The largest batch that an engine is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxBatch {
    /// This one; a model that cannot run it is an error.
    Exactly(usize),
    /// This one if the model has a batch dimension, else whatever single batch it has; half of it, and so on, where the device
    /// has no memory for more.
    UpTo(usize),
}

/// The engine that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct EngineRequest<'a> {
    /// The network.
    pub model: &'a Model,
    /// Whole shapes with the batch in front, for inputs with open dimensions.
    pub input_shapes: &'a BTreeMap<String, Vec<usize>>,
    /// The largest batch.
    pub max_batch: MaxBatch,
    /// What the builder may do.
    pub options: &'a BuildOptions,
    /// Samples that ranges of INT8 are taken from.
    pub calibration: Option<&'a Calibration>,
    /// Who hears how far it is, and what the user should know.
    pub watch: Option<&'a BuildWatch>,
}

/// An engine that was asked for.
pub struct Built<T> {
    /// What was made of it: the loaded engine.
    pub engine: T,
    /// Its bytes, and what is known of them.
    pub stored: StoredEngine,
    /// Whether it was built just now.
    pub source: Source,
    /// What the user should know about the cache.
    pub remarks: Vec<Remark>,
}

impl<T> Built<T> {
    /// The same with something else made of the engine.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Built<U> {
        let Self { engine, stored, source, remarks } = self;
        Built { engine: make(engine), stored, source, remarks }
    }
}

/// Where an engine was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The builder, which took this long.
    Builder(Duration),
    /// This file of the cache.
    Cache(PathBuf),
}

/// What it takes to have an engine again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineSource {
    /// Its model, built in this way: the cache has it, or it is built once more.
    Built(BuildSpec),
    /// This file.
    File(#[serde(serialize_with = "as_text")] PathBuf),
}

/// `fp16, level 3, batches 1 to 128`, or the file's path.
impl fmt::Display for EngineSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BuildSpec { options, max_batch_size, .. } = match self {
            Self::Built(spec) => spec,
            Self::File(path) => return path.display().fmt(f),
        };
        options.precision.fmt(f)?;
        if let Some(level) = options.optimization_level {
            write!(f, ", level {level}")?;
        }
        if let Some(count) = options.aux_streams {
            write!(f, ", auxiliary streams {count}")?;
        }
        match options.least_batch_size.unwrap_or(1) {
            least if least == *max_batch_size => write!(f, ", batch {least}"),
            least => write!(f, ", batches {least} to {max_batch_size}"),
        }
    }
}

/// Something about the cache that is no error, since there is an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remark {
    /// The cache had the engine, but it was of no use.
    Rebuilt {
        /// The file, which has been replaced.
        path: PathBuf,
        /// Why it was of no use.
        reason: String,
    },
    /// The engine is not in the cache.
    NotStored {
        /// Why not.
        reason: String,
    },
    /// Engines have left the cache to make room for this one.
    Removed {
        /// How many.
        count: usize,
        /// What they took.
        bytes: u64,
        /// What the cache may take.
        limit_bytes: u64,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rebuilt { path, reason } => {
                write!(f, "the cached engine {} is built again: {reason}", path.display())
            }
            Self::NotStored { reason } => write!(f, "the engine is not kept for the next run: {reason}"),
            Self::Removed { count, bytes, limit_bytes } => write!(
                f,
                "{count} of the cached engines ({}), those used longest ago, were removed: the cache keeps {}",
                units::Bytes(*bytes),
                units::Bytes(*limit_bytes)
            ),
        }
    }
}

/// Builds and loads an engine, or takes it from the cache. What the cache has and what is damaged or cannot be
/// loaded is built again.
///
/// # Errors
/// What [`Backend::build`] and [`Backend::load`] say.
pub fn build(
    backend: &dyn Backend,
    request: &EngineRequest<'_>,
    cache: Option<&Cache>,
) -> Result<Built<Arc<dyn Engine>>> {
    obtain(backend, request, cache, &|engine| backend.load(engine))
}

/// Builds an engine or takes it from the cache, and does not load it: the device that it is for need not be here.
///
/// # Errors
/// What [`Backend::build`] says.
pub fn build_for_later(
    backend: &dyn Backend,
    request: &EngineRequest<'_>,
    cache: Option<&Cache>,
) -> Result<Built<()>> {
    obtain(backend, request, cache, &|_| Ok(()))
}

type Load<'a, T> = &'a dyn Fn(&SerializedEngine) -> Result<T>;

fn obtain<T>(
    backend: &dyn Backend,
    request: &EngineRequest<'_>,
    cache: Option<&Cache>,
    load: Load<'_, T>,
) -> Result<Built<T>> {
    let at = |max_batch_size| {
        let input_shapes = request.input_shapes.clone();
        let spec = BuildSpec { input_shapes, max_batch_size, options: request.options.clone() };
        let order = BuildOrder {
            model: request.model,
            spec: &spec,
            calibration: request.calibration,
            watch: request.watch,
        };
        let path = cache.map(|cache| cache.path(backend, &order)).transpose()?.flatten();
        match cache.zip(path) {
            Some((cache, path)) => cached(backend, &order, (cache, &path), load),
            None => fresh(backend, &order, load),
        }
    };
    let mut batch_size = match request.max_batch {
        MaxBatch::Exactly(batch_size) => return at(batch_size),
        MaxBatch::UpTo(batch_size) => batch_size,
    };
    loop {
        match at(batch_size) {
            Err(Error::InvalidSetting { name: "batch", .. }) => return at(1),
            Err(error) if batch_size > 1 && error.is_out_of_memory() => batch_size /= 2,
            other => return other,
        }
    }
}

/// The engine at `path` in the cache, or a new one that is then there.
fn cached<T>(
    backend: &dyn Backend,
    order: &BuildOrder<'_>,
    (cache, path): (&Cache, &Path),
    load: Load<'_, T>,
) -> Result<Built<T>> {
    // Without the claim first, so that nobody waits for somebody who only reads.
    match from_cache(path, load) {
        Ok(Some(built)) => return Ok(built),
        // Another engine would be as large.
        Err(error) if error.is_out_of_memory() => return Err(error),
        Ok(None) | Err(_) => {}
    }
    let _claim = Cache::claim(path, order)?;
    let problem = match from_cache(path, load) {
        Ok(Some(built)) => return Ok(built),
        Ok(None) => None,
        Err(error) if error.is_out_of_memory() => return Err(error),
        Err(error) => Some(error),
    };
    let mut remarks = Vec::new();
    if let Some(error) = problem {
        remark(order, &mut remarks, Remark::Rebuilt { path: path.to_owned(), reason: in_full(&error) });
    }
    let mut built = fresh(backend, order, load)?;
    match cache.write(path, &built.stored) {
        Ok(removed) => removed.into_iter().for_each(|removed| remark(order, &mut remarks, removed)),
        // A full disk must not cost what took minutes to build.
        Err(error) => remark(order, &mut remarks, Remark::NotStored { reason: in_full(&error) }),
    }
    built.remarks = remarks;
    Ok(built)
}

fn from_cache<T>(path: &Path, load: Load<'_, T>) -> Result<Option<Built<T>>> {
    let Some(stored) = Cache::read(path)? else { return Ok(None) };
    let engine = load(&stored.engine)?;
    Ok(Some(Built { engine, stored, source: Source::Cache(path.to_owned()), remarks: Vec::new() }))
}

fn fresh<T>(backend: &dyn Backend, order: &BuildOrder<'_>, load: Load<'_, T>) -> Result<Built<T>> {
    let start = Instant::now();
    let serialized = backend.build(order)?;
    let source = Source::Builder(start.elapsed());
    let engine = load(&serialized)?;
    let origin = EngineOrigin {
        model: order.model.identity(&order.spec.input_shapes)?,
        build_identity: backend.build_identity(),
        calibration_sha256: order.calibration.map(|it| it.sha256().to_owned()),
    };
    let stored = StoredEngine { engine: serialized, origin: Some(origin) };
    Ok(Built { engine, stored, source, remarks: Vec::new() })
}

fn remark(order: &BuildOrder<'_>, remarks: &mut Vec<Remark>, remark: Remark) {
    if let Some(watch) = order.watch {
        // Whoever wants to stop says so again when the build goes on.
        let _ = watch.tell(BuildEvent::Remark(&remark.to_string()));
    }
    remarks.push(remark);
}

/// An error with its causes.
fn in_full(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
