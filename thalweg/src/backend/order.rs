//! What a builder is asked for, and what it tells while it works.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::BuildSpec;
use crate::error::{Error, Result};
use crate::model::{Model, Signature};

/// One build that a [`Backend`](super::Backend) is asked for.
#[derive(Clone, Copy, Debug)]
pub struct BuildOrder<'a> {
    /// The network.
    pub model: &'a Model,
    /// How to build it.
    pub spec: &'a BuildSpec,
    /// Samples that ranges of INT8 are taken from.
    pub calibration: Option<&'a Calibration>,
    /// Who hears how far it is.
    pub watch: Option<&'a BuildWatch>,
}

impl<'a> BuildOrder<'a> {
    /// A build without samples that nobody watches.
    pub fn new(model: &'a Model, spec: &'a BuildSpec) -> Self {
        Self { model, spec, calibration: None, watch: None }
    }

    /// What the engine takes and gives, for the batch sizes that it is built for.
    ///
    /// # Errors
    /// As [`Model::signature`]; [`Error::InvalidSetting`] where the least batch is above the most.
    pub fn signature(&self) -> Result<Signature> {
        let BuildSpec { input_shapes, max_batch_size, options } = self.spec;
        let signature = self.model.signature(input_shapes, *max_batch_size)?;
        let (start, end) = signature.batch_sizes.clone().into_inner();
        let least = options.least_batch_size.unwrap_or(1);
        if least > end {
            return Err(Error::InvalidSetting {
                name: "least batch",
                value: least.to_string(),
                reason: format!("the engine runs at most {end} samples"),
            });
        }
        Ok(Signature { batch_sizes: start.max(least)..=end, ..signature })
    }
}

/// Samples of every input, from which a builder takes the ranges of INT8.
#[derive(Clone)]
pub struct Calibration {
    count: usize,
    /// Name, and one sample after the other, by input.
    inputs: Vec<(String, Bytes)>,
    sha256: String,
}

impl Calibration {
    /// `count` samples; each input with its name and the bytes of one sample after the other.
    ///
    /// # Panics
    /// Where bytes are no whole number of samples.
    pub fn new(count: usize, inputs: Vec<(String, Bytes)>) -> Self {
        let mut hash = Sha256::new();
        hash.update(count.to_le_bytes());
        for (name, bytes) in &inputs {
            assert!(count > 0 && bytes.len() % count == 0, "{name}: no whole number of samples");
            // Lengths keep two names from running into each other.
            hash.update(name.len().to_le_bytes());
            hash.update(name);
            hash.update(bytes.len().to_le_bytes());
            hash.update(bytes);
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { count, inputs, sha256 }
    }

    /// How many samples there are, at least one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What tells these samples from others.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The bytes of one sample of an input, counted round and round; `None` where there is no such input.
    pub fn sample(&self, input: &str, sample: usize) -> Option<&[u8]> {
        let (_, bytes) = self.inputs.iter().find(|(name, _)| name == input)?;
        let size = bytes.len() / self.count;
        let start = (sample % self.count) * size;
        Some(&bytes[start..start + size])
    }
}

/// Without the bytes.
impl fmt::Debug for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calibration").field("count", &self.count).field("sha256", &self.sha256).finish()
    }
}

/// Something that happened in a build.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BuildEvent<'a> {
    /// Another process builds the same engine, and this one waits for it.
    Waiting,
    /// The builder starts to work. `can_stop` says whether it can be stopped before it is done.
    Started {
        /// Whether breaking off takes effect.
        can_stop: bool,
    },
    /// So much is done.
    Progress {
        /// What the builder calls its present work.
        phase: &'a str,
        /// From 0 to 1, as far as the builder tells.
        fraction: f64,
    },
    /// What the user should know, though there will be an engine.
    Remark(&'a str),
    /// A line of the builder's log.
    Said(&'a str),
    /// The builder has ended, well or not.
    Ended,
}

/// What hears of a build. Breaking off asks the builder to stop, see [`BuildEvent::Started`].
type Hear = dyn Fn(BuildEvent<'_>) -> ControlFlow<()> + Send + Sync;

/// Hears of a build while it runs, from any thread.
#[derive(Clone)]
pub struct BuildWatch(Arc<Hear>);

impl BuildWatch {
    /// A watch that calls `hear`. Where that breaks off, the build is stopped if it can be.
    pub fn new(hear: impl Fn(BuildEvent<'_>) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// The same, which breaks off from `deadline` on.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self::new(move |event| {
            let heard = self.tell(event);
            if Instant::now() < deadline { heard } else { ControlFlow::Break(()) }
        })
    }

    /// Tells it.
    pub fn tell(&self, event: BuildEvent<'_>) -> ControlFlow<()> {
        (self.0)(event)
    }
}

impl fmt::Debug for BuildWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BuildWatch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BuildOptions;
    use crate::model::zoo::Network;

    fn calibration(name: &str, bytes: &[u8]) -> Calibration {
        Calibration::new(2, vec![(name.to_owned(), Bytes::copy_from_slice(bytes))])
    }

    #[test]
    fn samples_go_round_and_round() {
        let samples = calibration("x", &[1, 2, 3, 4]);
        assert_eq!(samples.sample("x", 1), Some(&[3, 4][..]));
        assert_eq!(samples.sample("x", 2), Some(&[1, 2][..]));
        assert_eq!(samples.sample("y", 0), None);
    }

    #[test]
    fn an_engine_for_a_range_of_batches_runs_no_others() {
        let model = Model::from_proto(Network::Launch.generate(0), "launch.onnx").unwrap();
        let batches = |least_batch_size| {
            let options = BuildOptions { least_batch_size, ..BuildOptions::default() };
            let spec = BuildSpec { max_batch_size: 8, options, ..BuildSpec::default() };
            BuildOrder::new(&model, &spec).signature().map(|signature| signature.batch_sizes)
        };
        assert_eq!(batches(None).unwrap(), 1..=8);
        assert_eq!(batches(Some(5)).unwrap(), 5..=8);
        let error = batches(Some(9)).unwrap_err().to_string();
        assert_eq!(error, "least batch 9: the engine runs at most 8 samples");
    }

    #[test]
    fn other_samples_have_another_hash() {
        let known = calibration("x", &[1, 2, 3, 4]);
        assert_eq!(known.sha256(), calibration("x", &[1, 2, 3, 4]).sha256());
        assert_ne!(known.sha256(), calibration("x", &[1, 2, 3, 5]).sha256());
        assert_ne!(known.sha256(), calibration("y", &[1, 2, 3, 4]).sha256());
        assert_eq!(known.sha256().len(), 64);
    }
}
