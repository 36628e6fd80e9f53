//! From a model to an engine that is ready to run.
//!
//! In: a backend, a model, the shapes of its open dimensions and the largest batch. Out: an
//! [`Engine`]. Running it is left to [`pool`](crate::pool).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::{Backend, BuildOptions, BuildSpec, Engine};
use crate::error::{Error, Result};
use crate::model::Model;

/// The largest batch that an engine is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxBatch {
    /// This one; a model that cannot run it is an error.
    Exactly(usize),
    /// This one if the model has a batch dimension, else whatever single batch it has.
    UpTo(usize),
}

/// Builds and loads an engine. `input_shapes` are whole shapes with the batch in front, for inputs with open
/// dimensions.
///
/// # Errors
/// What [`Backend::build`] and [`Backend::load`] say.
pub fn build(
    backend: &dyn Backend,
    model: &Model,
    input_shapes: &BTreeMap<String, Vec<usize>>,
    max_batch: MaxBatch,
    options: &BuildOptions,
) -> Result<Arc<dyn Engine>> {
    let build = |max_batch_size| {
        let spec = BuildSpec { input_shapes: input_shapes.clone(), max_batch_size, options: options.clone() };
        backend.load(&backend.build(model, &spec)?)
    };
    match max_batch {
        MaxBatch::Exactly(batch_size) => build(batch_size),
        MaxBatch::UpTo(batch_size) => match build(batch_size) {
            Err(Error::InvalidSetting { name: "batch", .. }) => build(1),
            other => other,
        },
    }
}
