//! The journal of a search: one JSON line per measurement, so that nothing measured is ever lost.
//!
//! The first line says what is searched, every other line is an [`Entry`]. A line is written as soon as its
//! measurement is done. After a crash the last line may be cut off; it is dropped and measured again. The
//! folder is locked while a journal is open. Lines reach the operating system at once, so a killed process
//! loses nothing; a power failure may lose the last seconds.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Ending, Limits, Slice, Space};
use crate::backend::BuildSpec;
use crate::backend::DeviceSpec;
use crate::capacity::Prediction;
use crate::error::{Error, Result};
use crate::files::OutputFolder;
use crate::measure::Feeding;
use crate::model::ModelIdentity;
use crate::units::Nanos;

/// Version of the journal's format.
pub const JOURNAL_VERSION: u32 = 4;

/// Name of the journal in its folder.
pub const JOURNAL_FILE: &str = "journal.jsonl";

/// How every header starts.
const HEADER_START: &[u8] = b"{\"schema";

/// What a search is about. Only a journal with the same header can be continued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`JOURNAL_VERSION`].
    pub schema_version: u32,
    /// The model. Its path may change between sessions, its content may not.
    pub model: ModelIdentity,
    /// How its engine was built; `None` for one of a file.
    pub engine: Option<BuildSpec>,
    /// Which file that is, by its content: it may have been moved, or been written anew.
    pub engine_sha256: Option<String>,
    /// The device.
    pub device: DeviceSpec,
    /// What is searched.
    pub space: Space,
    /// What the winner has to respect.
    pub limits: Limits,
    /// Size of requests; `None` is a whole batch each.
    pub samples_per_request: Option<usize>,
    /// How slots are filled.
    pub feeding: Feeding,
    /// Seed of the search.
    pub seed: u64,
}

/// One line after the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A candidate that is not measured since the device's memory has no room for it; before all slices.
    LeftOut {
        /// The candidate: its index in the space's candidates, or behind them the baseline.
        candidate: usize,
        /// Its configuration, for a reader of the journal.
        configuration: String,
        /// What it needs and what there is.
        reason: String,
    },
    /// The next slice is of this candidate, since there was no time for the one that was to be measured.
    Instead {
        /// The candidate.
        candidate: usize,
        /// Its configuration, for a reader of the journal.
        configuration: String,
        /// What was passed over, for a reader of the journal.
        of: String,
    },
    /// A slice of the race.
    Slice(Reading),
    /// A slice that was measured to compare finalists.
    Final(Reading),
    /// Something to tell a reader of the journal; means nothing when it is continued.
    Note {
        /// What happened.
        text: String,
    },
    /// The search ended. It may be continued all the same, with more time.
    Ended {
        /// Why.
        ending: Ending,
    },
}

/// A slice and when it was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The candidate: its index in the space's candidates.
    pub candidate: usize,
    /// Its configuration, for a reader of the journal.
    pub configuration: String,
    /// What was predicted before it was measured, for a reader of the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Prediction>,
    /// What was measured.
    pub slice: Slice,
    /// Time that the search had taken when this slice ended, earlier sessions included.
    #[serde(rename = "elapsed_ns")]
    pub elapsed: Nanos,
    /// The part of that which no measurement took.
    pub setup: SetupTime,
}

/// What measurements took beyond their own length, to make pools and to compare their outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetupTime {
    /// All of it.
    #[serde(rename = "time_ns")]
    pub time: Nanos,
    /// How many slots these pools had together.
    pub slots: u32,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    kept: usize,
}

impl Journal {
    /// Starts a journal in this folder, which is made where it does not exist.
    ///
    /// # Errors
    /// As [`check_absent`](Self::check_absent), and [`Error::Io`] where the journal cannot be written.
    pub fn create(folder: &OutputFolder, header: &Header) -> Result<Self> {
        Self::check_absent(folder)?;
        Self::begin(folder.path().join(JOURNAL_FILE), header)
    }

    /// Refuses a folder whose journal holds measurements: for callers that want to know before they build an
    /// engine. One that holds none, or only failures, is of no use to anybody and may be overwritten.
    ///
    /// # Errors
    /// [`Error::EarlierJournal`] where there is one, [`Error::Mismatch`] where a file of its name is
    /// something else.
    pub fn check_absent(folder: &OutputFolder) -> Result<()> {
        let path = folder.path().join(JOURNAL_FILE);
        let stored = Stored::read(&path)?;
        if stored.readings().any(|reading| reading.slice.failure.is_none()) {
            return Err(Error::EarlierJournal { path, reading_count: stored.reading_count() });
        }
        Ok(())
    }

    /// Opens the journal in this folder and gives what it holds; starts one where there is none.
    ///
    /// # Errors
    /// As [`create`](Self::create), and [`Error::Mismatch`] naming the first difference where the journal is
    /// about something else.
    pub fn resume(folder: &OutputFolder, header: &Header) -> Result<(Self, Vec<Entry>)> {
        let path = folder.path().join(JOURNAL_FILE);
        let stored = Stored::read(&path)?;
        let Some(found) = &stored.header else { return Ok((Self::begin(path, header)?, Vec::new())) };
        check_header(&path, found, header)?;
        let kept = stored.reading_count();
        let open = || {
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(stored.whole_bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(Error::io("continue", &path))?;
        Ok((Self { path, file, kept }, stored.entries))
    }

    fn begin(path: PathBuf, header: &Header) -> Result<Self> {
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        let mut journal = Self { path, file, kept: 0 };
        journal.write_line(header)?;
        Ok(journal)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`Error::JournalWrite`] with the number of measurements that are safe.
    pub fn add(&mut self, entry: &Entry) -> Result<()> {
        self.write_line(entry)?;
        self.kept += usize::from(matches!(entry, Entry::Slice(_) | Entry::Final(_)));
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write_line(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text =
            serde_json::to_string(line).map_err(|error| Error::Bug(format!("journal line: {error}")))?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|source| Error::JournalWrite {
            path: self.path.clone(),
            kept: self.kept,
            source,
        })
    }
}

/// What a journal holds.
#[derive(Default)]
struct Stored {
    header: Option<Value>,
    entries: Vec<Entry>,
    /// Bytes of all whole lines; what follows was cut off.
    whole_bytes: u64,
}

impl Stored {
    /// An absent file is an empty journal.
    fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(Error::io("read", path))?,
        };
        let mut stored = Self::default();
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            match stored.take(line) {
                Ok(()) => stored.whole_bytes += line.len() as u64,
                // Only the last line can be cut off. Where it is the first, it has to look like one of ours.
                Err(_) if lines.peek().is_none() && (index > 0 || line.starts_with(HEADER_START)) => break,
                Err(error) => {
                    let reason = format!("line {} is not from a journal: {error}", index + 1);
                    return Err(Error::Mismatch { path: path.to_owned(), reason });
                }
            }
        }
        Ok(stored)
    }

    fn take(&mut self, line: &[u8]) -> serde_json::Result<()> {
        use serde::de::Error as _;
        if !line.ends_with(b"\n") {
            return Err(serde_json::Error::custom("the line is cut off"));
        }
        if self.header.is_none() {
            let header: Value = serde_json::from_slice(line)?;
            if header.get("schema_version").is_none() {
                return Err(serde_json::Error::custom("it has no schema_version"));
            }
            self.header = Some(header);
        } else {
            self.entries.push(serde_json::from_slice(line)?);
        }
        Ok(())
    }

    fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Slice(reading) | Entry::Final(reading) => Some(reading),
            Entry::LeftOut { .. } | Entry::Instead { .. } | Entry::Note { .. } | Entry::Ended { .. } => None,
        })
    }

    fn reading_count(&self) -> usize {
        self.readings().count()
    }
}

/// Refuses a journal about something else. The model may have been moved, so its path does not count.
fn check_header(path: &Path, found: &Value, expected: &Header) -> Result<()> {
    let expected =
        serde_json::to_value(expected).map_err(|error| Error::Bug(format!("journal header: {error}")))?;
    let without_path = |header: &Value| {
        let mut header = header.clone();
        if let Some(model) = header.get_mut("model").and_then(Value::as_object_mut) {
            model.remove("path");
        }
        header
    };
    // Before all else: shapes and space of another model differ too, and would only distract.
    if found.pointer("/model/sha256") != expected.pointer("/model/sha256") {
        let of = found.pointer("/model/path").and_then(Value::as_str).unwrap_or("an unknown file");
        let reason = format!("it is about another model, {of}: choose another --out");
        return Err(Error::Mismatch { path: path.to_owned(), reason });
    }
    match first_difference("", &without_path(found), &without_path(&expected)) {
        None => Ok(()),
        Some((name, found, expected)) => {
            let reason = format!("its {name} is {found}, this run's is {expected}: choose another --out");
            Err(Error::Mismatch { path: path.to_owned(), reason })
        }
    }
}

/// Name and both values of the first field that differs.
fn first_difference(name: &str, found: &Value, expected: &Value) -> Option<(String, Value, Value)> {
    let (Value::Object(found), Value::Object(expected)) = (found, expected) else {
        return (found != expected).then(|| (name.to_owned(), found.clone(), expected.clone()));
    };
    let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
    keys.into_iter().find_map(|key| {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        let value = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or(Value::Null);
        first_difference(&name, &value(found), &value(expected))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tune::synthetic::{Folder, cpu, header, reading};

    fn slice_entry(candidate: usize) -> Entry {
        Entry::Slice(reading(candidate, 100.0 / 3.0))
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = Folder::new("journal-round-trip");
        let mut journal = Journal::create(&folder.claim(), &header()).unwrap();
        let entries =
            [slice_entry(3), Entry::Note { text: "dropped".into() }, Entry::Ended { ending: Ending::TimeUp }];
        entries.iter().for_each(|entry| journal.add(entry).unwrap());
        drop(journal);
        let (_, found) = Journal::resume(&folder.claim(), &header()).unwrap();
        assert_eq!(found, entries);
    }

    #[test]
    fn a_line_that_was_cut_off_is_dropped() {
        let folder = Folder::new("journal-cut");
        let mut journal = Journal::create(&folder.claim(), &header()).unwrap();
        journal.add(&slice_entry(0)).unwrap();
        journal.add(&slice_entry(1)).unwrap();
        let path = journal.path().to_owned();
        drop(journal);
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 30).unwrap();

        let (mut journal, found) = Journal::resume(&folder.claim(), &header()).unwrap();
        assert_eq!(found, [slice_entry(0)]);
        journal.add(&slice_entry(2)).unwrap();
        drop(journal);
        let (_, found) = Journal::resume(&folder.claim(), &header()).unwrap();
        assert_eq!(found, [slice_entry(0), slice_entry(2)]);
    }

    #[test]
    fn a_header_that_was_cut_off_is_written_again() {
        let folder = Folder::new("journal-cut-header");
        fs::write(folder.path().join(JOURNAL_FILE), "{\"schema_ver").unwrap();
        let (_, found) = Journal::resume(&folder.claim(), &header()).unwrap();
        assert!(found.is_empty());
        let (_, found) = Journal::resume(&folder.claim(), &header()).unwrap();
        assert!(found.is_empty());
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_named() {
        let folder = Folder::new("journal-damaged");
        let mut journal = Journal::create(&folder.claim(), &header()).unwrap();
        journal.file.write_all(b"not json\n").unwrap();
        journal.add(&slice_entry(1)).unwrap();
        drop(journal);
        let error = Journal::resume(&folder.claim(), &header()).unwrap_err().to_string();
        assert!(error.contains("line 2 is not from a journal"), "{error}");
    }

    #[test]
    fn another_file_of_that_name_is_not_overwritten() {
        let folder = Folder::new("journal-foreign");
        let path = folder.path().join(JOURNAL_FILE);
        fs::write(&path, "shopping list\n").unwrap();
        assert!(Journal::create(&folder.claim(), &header()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "shopping list\n");
    }

    #[test]
    fn a_disk_that_fills_up_leaves_the_count_of_what_is_kept() {
        let folder = Folder::new("journal-full");
        let mut journal = Journal::create(&folder.claim(), &header()).unwrap();
        journal.add(&slice_entry(0)).unwrap();
        journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = journal.add(&slice_entry(1)).unwrap_err();
        assert!(matches!(error, Error::JournalWrite { kept: 1, .. }), "{error}");
    }

    #[test]
    fn an_earlier_journal_is_not_overwritten() {
        let folder = Folder::new("journal-earlier");
        let mut journal = Journal::create(&folder.claim(), &header()).unwrap();
        journal.add(&slice_entry(0)).unwrap();
        drop(journal);
        let error = Journal::create(&folder.claim(), &header()).unwrap_err().to_string();
        assert!(error.contains("1 measurement of an earlier run: continue with --resume"), "{error}");
    }

    #[test]
    fn a_journal_without_anything_measured_is_in_nobodys_way() {
        let folder = Folder::new("journal-failures");
        let mut journal = Journal::create(&folder.claim(), &header()).unwrap();
        let slice = Slice::failed(&Error::Stopped);
        journal.add(&Entry::Slice(Reading { slice, ..reading(0, 1.0) })).unwrap();
        drop(journal);
        drop(Journal::create(&folder.claim(), &header()).unwrap());
        let (_, found) = Journal::resume(&folder.claim(), &header()).unwrap();
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn the_first_difference_is_named_with_both_values() {
        let folder = Folder::new("journal-other");
        drop(Journal::create(&folder.claim(), &header()).unwrap());
        let mut moved = header();
        moved.model.path = "elsewhere.onnx".into();
        assert!(Journal::resume(&folder.claim(), &moved).is_ok());

        moved.model.sha256 = "of something else".into();
        let error = Journal::resume(&folder.claim(), &moved).unwrap_err().to_string();
        assert!(error.contains("it is about another model, "), "{error}");

        let other_device = Header { device: cpu(16), ..header() };
        let error = Journal::resume(&folder.claim(), &other_device).unwrap_err().to_string();
        assert!(error.contains("its device.core_count is 2, this run's is 16"), "{error}");

        let engine_sha256 = Some("of another file".to_owned());
        let error = Journal::resume(&folder.claim(), &Header { engine_sha256, ..header() });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("its engine_sha256 is null, this run's is \"of another file\""), "{error}");

        let feeding = Feeding::Resident;
        let error =
            Journal::resume(&folder.claim(), &Header { feeding, ..header() }).unwrap_err().to_string();
        assert!(
            error.contains("its feeding is {\"copy\":{\"threads\":1}}, this run's is \"resident\""),
            "{error}"
        );

        let limits = Limits { p99: Some(Nanos(5)), memory_bytes: None };
        let error = Journal::resume(&folder.claim(), &Header { limits, ..header() }).unwrap_err().to_string();
        assert!(error.contains("its limits.p99_ns is null, this run's is 5"), "{error}");
    }
}
