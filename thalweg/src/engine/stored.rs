//! A serialised engine as a file, and beside it a label with what is known of it.
//!
//! The engine's file is TensorRT's own, so other programs can load it; the label is JSON under the same name with
//! `.json` behind it. A file without a label, as of `trtexec`, is read too: then the engine itself tells what goes
//! in and what comes out.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::backend::{BuildSpec, SerializedEngine, tensorrt};
use crate::error::{Error, Result};
use crate::files::{hex_digest, write_whole};
use crate::model::{ModelIdentity, Signature};

/// Version of the label. Older programs refuse newer ones.
const LABEL_VERSION: u32 = 1;

/// A serialised engine with all that is known of it.
#[derive(Clone, Debug)]
pub struct StoredEngine {
    /// The engine.
    pub engine: SerializedEngine,
    /// Where it comes from; `None` for a file without a label.
    pub origin: Option<EngineOrigin>,
}

/// Where an engine comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineOrigin {
    /// The model it was built from.
    pub model: ModelIdentity,
    /// What built it, for which device.
    pub build_identity: Option<String>,
    /// SHA-256 of the samples that ranges of INT8 were taken from.
    pub calibration_sha256: Option<String>,
}

/// What the label says.
#[derive(Serialize, Deserialize)]
struct Label {
    version: u32,
    /// Of the engine's file, so that a label of another file is found out.
    engine_sha256: String,
    backend: String,
    origin: EngineOrigin,
    spec: BuildSpec,
    signature: Signature,
}

impl StoredEngine {
    /// Reads an engine, and its label where it has one.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::NotAnEngine`] where the label cannot be used or belongs to
    /// another file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes: Bytes = fs::read(path).map_err(Error::io("read", path))?.into();
        let label_path = label_path(path);
        let label = match fs::read(&label_path) {
            Ok(label) => label,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::without_label(bytes)),
            Err(error) => return Err(Error::io("read", label_path)(error)),
        };
        let unusable = |reason| Error::NotAnEngine { path: path.to_owned(), reason };
        let label = Label::parse(&label, &bytes)
            .map_err(|reason| unusable(format!("{} {reason}; build it again", label_path.display())))?;
        let engine = SerializedEngine {
            backend: label.backend,
            bytes,
            spec: Some(label.spec),
            signature: Some(label.signature),
        };
        Ok(Self { engine, origin: Some(label.origin) })
    }

    /// A file of somebody else's can only be TensorRT's.
    fn without_label(bytes: Bytes) -> Self {
        let engine =
            SerializedEngine { backend: tensorrt::NAME.to_owned(), bytes, spec: None, signature: None };
        Self { engine, origin: None }
    }

    /// Writes engine and label, each whole or not at all. The engine comes first: where the second write fails, the
    /// old label is found out to be of another file.
    ///
    /// # Errors
    /// [`Error::Io`] where one cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, &self.engine.bytes)?;
        if let Some(label) = Label::of(self) {
            let text = serde_json::to_vec_pretty(&label).expect("bug: a label is plain data");
            write_whole(&label_path(path), &text)?;
        }
        Ok(())
    }

    /// What results of this engine are filed under: the model where it is known, else the file itself.
    pub fn identity(&self, path: &Path) -> ModelIdentity {
        match &self.origin {
            Some(origin) => origin.model.clone(),
            None => ModelIdentity {
                path: path.to_owned(),
                sha256: hex_digest(&self.engine.bytes),
                input_shapes: std::collections::BTreeMap::new(),
            },
        }
    }
}

impl Label {
    fn of(stored: &StoredEngine) -> Option<Self> {
        let engine = &stored.engine;
        Some(Self {
            version: LABEL_VERSION,
            engine_sha256: hex_digest(&engine.bytes),
            backend: engine.backend.clone(),
            origin: stored.origin.clone()?,
            spec: engine.spec.clone()?,
            signature: engine.signature.clone()?,
        })
    }

    /// The label of this engine, or what is wrong with it as the rest of a sentence.
    fn parse(text: &[u8], engine: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| format!("is no label of an engine: {error}"))?;
        let version = value["version"].as_u64().unwrap_or(0);
        if version != u64::from(LABEL_VERSION) {
            return Err(format!("is of version {version}, this program reads {LABEL_VERSION}"));
        }
        let label: Self =
            serde_json::from_value(value).map_err(|error| format!("is no label of an engine: {error}"))?;
        let got = hex_digest(engine);
        if label.engine_sha256 != got {
            return Err(format!(
                "describes another engine, of sha256 {}: this one has {got}, so it was damaged or replaced",
                label.engine_sha256
            ));
        }
        Ok(label)
    }
}

/// Where the label of an engine's file is.
pub(super) fn label_path(engine: &Path) -> PathBuf {
    let mut name = OsString::from(engine.as_os_str());
    name.push(".json");
    name.into()
}
