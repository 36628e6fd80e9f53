//! Calibration tables as files: JSON of our own, and TensorRT's cache. Which one it is, a file tells by its start.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CalibrationMethod, CalibrationTable, Threshold, tensorrt_cache};
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::precision::RangeSource;

/// Version of the JSON. Older programs refuse newer ones.
const VERSION: u32 = 1;

/// The file's ending for TensorRT's cache: what `trtexec --calib` is given by convention.
const CACHE_ENDING: &str = "cache";

#[derive(Serialize, Deserialize)]
struct TableFile {
    version: u32,
    method: Option<CalibrationMethod>,
    source: Option<RangeSource>,
    thresholds: BTreeMap<String, Threshold>,
}

impl CalibrationTable {
    /// Reads a table: JSON as [`write`](Self::write) makes it, or a calibration cache of TensorRT's.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::NotACalibrationTable`] where it is neither.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        Self::parse(&bytes).map_err(|reason| Error::NotACalibrationTable { path: path.to_owned(), reason })
    }

    /// A table in a file's bytes, or the sentence that says what is wrong with them.
    ///
    /// # Errors
    /// That sentence.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        if text.starts_with(tensorrt_cache::START) {
            return Ok(Self { thresholds: tensorrt_cache::parse(text)?, ..Self::default() });
        }
        let file: TableFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if file.version > VERSION {
            return Err(format!("it has version {}, and this program knows {VERSION}", file.version));
        }
        let thresholds = file.thresholds.into_iter().map(|(name, Threshold(threshold))| (name, threshold));
        Ok(Self { method: file.method, source: file.source, thresholds: thresholds.collect() })
    }

    /// Writes the table, whole or not at all: as TensorRT's cache where the file's name ends in `.cache`, else as JSON.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let is_cache = path.extension().is_some_and(|ending| ending == CACHE_ENDING);
        write_whole(path, if is_cache { self.to_tensorrt_cache() } else { self.to_json() }.as_bytes())
    }

    /// The table as TensorRT's calibration cache.
    pub fn to_tensorrt_cache(&self) -> String {
        tensorrt_cache::write(&self.thresholds)
    }

    /// The table as JSON.
    pub fn to_json(&self) -> String {
        let thresholds =
            self.thresholds.iter().map(|(name, threshold)| (name.clone(), Threshold(*threshold)));
        let file = TableFile {
            version: VERSION,
            method: self.method,
            source: self.source.clone(),
            thresholds: thresholds.collect(),
        };
        serde_json::to_string_pretty(&file).expect("bug: a table is plain data") + "\n"
    }
}
