//! `TunedConfig`: the result of a search as a file that can be deployed.
//!
//! Readable JSON that says what to run, for which model, and what to expect of it. It is read again by
//! whatever runs the configuration. Whether the device is still the same is for the reader to judge:
//! [`TunedConfig::differences`] lists what changed.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Compliance, Limits, TuneOutcome, saturating_load};
use crate::backend::DeviceSpec;
use crate::engine::EngineSource;
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::measure::{Estimate, LatencySummary, Load};
use crate::model::{ModelIdentity, Signature};
use crate::pool::Configuration;

/// Version of the file's format.
pub const TUNED_VERSION: u32 = 1;

/// The name of the file in a folder of `tune`.
pub const TUNED_FILE: &str = "tuned.json";

/// The configuration that won a search, and all that is needed to run it and to check on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TunedConfig {
    /// [`TUNED_VERSION`].
    pub schema_version: u32,
    /// Version of Thalweg that wrote it.
    pub thalweg_version: String,
    /// What was tuned.
    pub model: ModelIdentity,
    /// What it takes to have its engine again; files of earlier versions lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineSource>,
    /// Where, with the versions of all that ran.
    pub device: DeviceSpec,
    /// What to run.
    pub configuration: Configuration,
    /// The load it was measured under.
    pub load: Load,
    /// The limits of the search.
    pub limits: Limits,
    /// Whether it keeps them.
    pub compliance: Compliance,
    /// Inferences per second: those of the confirmation, where there was time for one.
    pub throughput_inferences_per_s: Estimate,
    /// Latencies of the same measurement.
    pub latency: LatencySummary,
    /// What won and why.
    pub verdict: String,
    /// Inputs and outputs; files of earlier versions lack them.
    #[serde(default)]
    pub signature: Option<Signature>,
}

impl TunedConfig {
    /// The winner of a search; `None` where nothing won.
    pub fn of(outcome: &TuneOutcome) -> Option<Self> {
        let winner = &outcome.candidates[outcome.winner?];
        // A confirmation took no part in the choice, so it is free of the luck that helps to win.
        let (throughput_inferences_per_s, latency) = match &outcome.confirmation {
            Some(confirmed) => (confirmed.throughput_inferences_per_s, confirmed.latency),
            None => (winner.throughput_inferences_per_s?, winner.latency?),
        };
        Some(Self {
            schema_version: TUNED_VERSION,
            thalweg_version: env!("CARGO_PKG_VERSION").to_owned(),
            model: outcome.model.clone(),
            engine: outcome.engine.clone(),
            device: outcome.device.clone(),
            configuration: winner.configuration,
            load: saturating_load(&winner.configuration, outcome.samples_per_request),
            limits: outcome.limits,
            compliance: winner.compliance,
            throughput_inferences_per_s,
            latency,
            verdict: outcome.verdict.clone(),
            signature: outcome.signature.clone(),
        })
    }

    /// Reads a file that [`write`](Self::write) made, or the `tuned.json` of a folder of `tune`.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::NotTuned`] where it is not JSON, of another version,
    /// or lacks a field.
    pub fn read(path: &Path) -> Result<Self> {
        let in_folder = path.join(TUNED_FILE);
        let path = if path.is_dir() { &in_folder } else { path };
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let refused = |reason: String| Error::NotTuned { path: path.to_owned(), reason };
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| refused(format!("not JSON: {error}")))?;
        match value.get("schema_version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(TUNED_VERSION) => {}
            Some(version) => {
                return Err(refused(format!(
                    "its schema_version is {version}, this program reads {TUNED_VERSION}"
                )));
            }
            None => return Err(refused("it has no schema_version".to_owned())),
        }
        let tuned: Self = serde_json::from_value(value).map_err(|error| refused(error.to_string()))?;
        let Configuration { streams, depth, batch_size, submitters, .. } = tuned.configuration;
        let counts =
            [("streams", streams), ("slots", depth), ("samples", batch_size), ("submitters", submitters)];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((what, _)) => Err(refused(format!("it has no {what}"))),
            None => Ok(tuned),
        }
    }

    /// Writes it as readable JSON, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Bug(format!("tuned configuration: {error}")))?;
        text.push('\n');
        write_whole(path, text.as_bytes())
    }

    /// Streams that each execution of its engine may use besides its own, as far as the build was told.
    pub fn aux_streams(&self) -> usize {
        match &self.engine {
            Some(EngineSource::Built(spec)) => spec.options.aux_streams.unwrap_or(0).into(),
            Some(EngineSource::File(_)) | None => 0,
        }
    }

    /// Checks that it belongs to the model with this SHA-256.
    ///
    /// # Errors
    /// [`Error::OtherModel`].
    pub fn check_model(&self, sha256: &str) -> Result<()> {
        if self.model.sha256 == sha256 {
            return Ok(());
        }
        Err(Error::OtherModel {
            path: self.model.path.clone(),
            expected: self.model.sha256.clone(),
            got: sha256.to_owned(),
        })
    }

    /// What is not as it was when this was tuned, one sentence each. It may still run, but neither speed nor
    /// choice need hold.
    pub fn differences(&self, device: &DeviceSpec) -> Vec<String> {
        let tuned = &self.device;
        let facts = [
            ("backend", tuned.backend.clone(), device.backend.clone()),
            ("device", tuned.name.clone(), device.name.clone()),
            ("core count", tuned.core_count.to_string(), device.core_count.to_string()),
            ("memory", memory(tuned), memory(device)),
        ];
        let mut differences: Vec<String> = facts
            .into_iter()
            .filter(|(_, then, now)| then != now)
            .map(|(name, then, now)| format!("tuned with {name} {then}, now {now}"))
            .collect();
        differences.extend(self.version_differences(device));
        differences
    }

    fn version_differences<'a>(&'a self, device: &'a DeviceSpec) -> impl Iterator<Item = String> + 'a {
        let names = self.device.versions.keys().chain(device.versions.keys());
        let names: std::collections::BTreeSet<&String> = names.collect();
        let version = |device: &DeviceSpec, name: &String| {
            device.versions.get(name).cloned().unwrap_or_else(|| "(absent)".to_owned())
        };
        names.into_iter().filter_map(move |name| {
            let (then, now) = (version(&self.device, name), version(device, name));
            (then != now).then(|| format!("tuned with {name} {then}, now {now}"))
        })
    }
}

fn memory(device: &DeviceSpec) -> String {
    device.memory_bytes.map_or_else(|| "unknown".to_owned(), |bytes| crate::units::Bytes(bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::synthetic::{Folder, cpu, tuned};

    #[test]
    fn what_was_written_is_read_again() {
        let folder = Folder::new("tuned-round-trip");
        let path = folder.path().join("tuned.json");
        tuned().write(&path).unwrap();
        assert_eq!(TunedConfig::read(&path).unwrap(), tuned());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_refused_with_the_reason() {
        let folder = Folder::new("tuned-refused");
        let path = folder.path().join("tuned.json");
        let mut without_load = serde_json::to_value(tuned()).unwrap();
        without_load.as_object_mut().unwrap().remove("load");
        let cases = [
            ("shopping list".to_owned(), "not JSON"),
            ("{}".to_owned(), "it has no schema_version"),
            (r#"{"schema_version": 9}"#.to_owned(), "its schema_version is 9, this program reads 1"),
            (without_load.to_string(), "missing field `load`"),
        ];
        for (text, reason) in cases {
            fs::write(&path, text).unwrap();
            let error = TunedConfig::read(&path).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(matches!(
            TunedConfig::read(&folder.path().join("absent")),
            Err(Error::Io { action: "read", .. })
        ));
    }

    #[test]
    fn another_model_is_refused() {
        assert!(tuned().check_model("abc123").is_ok());
        let error = tuned().check_model("def456").unwrap_err().to_string();
        assert!(error.contains("expected sha256 abc123, got def456"), "{error}");
    }

    #[test]
    fn what_changed_since_tuning_is_listed() {
        assert!(tuned().differences(&cpu(2)).is_empty());
        let mut device = cpu(16);
        device.versions.insert("rten".to_owned(), "0.28".to_owned());
        let differences = tuned().differences(&device);
        assert_eq!(differences, ["tuned with core count 2, now 16", "tuned with rten 0.27, now 0.28"]);
    }
}
