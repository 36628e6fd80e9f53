//! What tells one model from another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which model a result belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Where it was read from.
    pub path: PathBuf,
    /// SHA-256 over the model and its external data.
    pub sha256: String,
    /// Input shapes that were given for open dimensions, the batch in front.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
}
