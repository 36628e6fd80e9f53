//! What tells one model from another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

/// A path in a result. Names of files may hold anything, and a search must not end for it.
pub(crate) fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Which model a result belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Where it was read from. Results are text, in which what is no UTF-8 is replaced.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// SHA-256 over the model and its external data.
    pub sha256: String,
    /// Input shapes that were given for open dimensions, the batch in front.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_name_that_is_no_text_is_written_all_the_same() {
        let path = Path::new(OsStr::from_bytes(b"model-\xff.onnx")).to_owned();
        let identity = ModelIdentity { path, sha256: String::new(), input_shapes: BTreeMap::new() };
        assert!(serde_json::to_string(&identity).unwrap().contains("model-\u{fffd}.onnx"));
    }
}
