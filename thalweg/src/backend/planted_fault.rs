//! Mistakes that programs around an engine often make, planted on purpose: so that a diagnosis has something to find.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::units::Nanos;

/// A bottleneck that is put into a pool, for tests of [`diagnose`](crate::diagnose): results stay right and come late.
/// No rule looks at it, only at what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlantedFault {
    /// Host buffers are ordinary memory, so each copy goes through a buffer of the driver's and holds up the thread
    /// that asks for it.
    PageableMemory,
    /// All streams are CUDA's default stream, so executions run one after the other.
    DefaultStream,
    /// A submitting thread starts an execution only when the one before has ended.
    WaitPerItem,
    /// A sending thread needs so long to prepare each request, before it asks for room.
    SlowFeed(Nanos),
}

impl PlantedFault {
    /// Refuses what only a GPU's driver can do wrong, for backends without one.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`].
    pub(super) fn check_without_driver(fault: Option<Self>, backend: &str) -> Result<()> {
        match fault {
            Some(fault @ (Self::PageableMemory | Self::DefaultStream)) => Err(Error::InvalidSetting {
                name: "plant-fault",
                value: fault.to_string(),
                reason: format!("the {backend} backend uses no CUDA"),
            }),
            _ => Ok(()),
        }
    }

    /// Time that a sending thread needs for each request.
    pub(crate) fn preparation(fault: Option<Self>) -> Nanos {
        match fault {
            Some(Self::SlowFeed(time)) => time,
            _ => Nanos::ZERO,
        }
    }
}

/// As on the command line: `pageable`, `default-stream`, `wait-per-item` or `slow-feed=0.5`, in milliseconds.
impl fmt::Display for PlantedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageableMemory => f.write_str("pageable"),
            Self::DefaultStream => f.write_str("default-stream"),
            Self::WaitPerItem => f.write_str("wait-per-item"),
            Self::SlowFeed(time) => write!(f, "slow-feed={}", time.as_millis()),
        }
    }
}
