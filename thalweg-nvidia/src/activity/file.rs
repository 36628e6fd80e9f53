//! The file of activities: written while a program runs, readable whenever that ends.
//!
//! A head with a magic line and who was watched, then entries of a tag and its fields, and no index: what was written
//! before a crash can be read, and an entry that was cut off is the end.

use std::collections::HashMap;
use std::io::{self, Write};

use super::stored::Stored;
use super::{Activity, NameId};

/// First bytes of the file, with the version of what follows.
const MAGIC: &[u8] = b"thalweg activity 1\n";

/// The most that a file may grow to, in bytes: some ten million activities, which a reader still holds in memory.
const MOST_BYTES: u64 = 1_000_000_000;

const NAME: u8 = 1;
const CALL: u8 = 2;
const KERNEL: u8 = 3;
const COPY: u8 = 4;
const FILL: u8 = 5;
const GRAPH_RUN: u8 = 6;
const STREAM: u8 = 7;
const CLOCK: u8 = 8;
const DROPPED: u8 = 9;
const REMARK: u8 = 10;
const END: u8 = 11;

/// What stands in a file besides names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Something happened.
    Activity(Activity),
    /// The same moment on two clocks.
    Clock {
        /// The clock of all activities.
        activity_ns: u64,
        /// Nanoseconds since 1970.
        unix_ns: u64,
    },
    /// CUPTI lost so many activities for want of memory.
    Dropped(u64),
    /// What whoever reads this should know, such as why there are no activities.
    Remark(String),
    /// The watched process ended as it should, and all that was known was written.
    End,
}

/// Writes activities to a file.
pub struct Writer<File> {
    file: File,
    names: HashMap<String, NameId>,
    bytes: Vec<u8>,
    written: u64,
    most: u64,
    is_full: bool,
}

impl<File: Write> Writer<File> {
    /// Begins the file of a process.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn begin(mut file: File, process: u32, program: &str) -> io::Result<Self> {
        let mut bytes = MAGIC.to_vec();
        process.put(&mut bytes);
        program.to_owned().put(&mut bytes);
        file.write_all(&bytes)?;
        Ok(Self {
            file,
            names: HashMap::new(),
            bytes: Vec::new(),
            written: 0,
            most: MOST_BYTES,
            is_full: false,
        })
    }

    /// The same for a file that may grow to so many bytes.
    pub fn at_most(self, bytes: u64) -> Self {
        Self { most: bytes, ..self }
    }

    /// The number of a name, which is written when it is new.
    pub fn name(&mut self, text: &str) -> NameId {
        if let Some(known) = self.names.get(text) {
            return *known;
        }
        // A program with four thousand million names would have filled the file long before.
        let id = NameId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.insert(text.to_owned(), id);
        self.bytes.push(NAME);
        id.put(&mut self.bytes);
        text.to_owned().put(&mut self.bytes);
        id
    }

    /// Adds an entry, which is in the file after the next [`flush`](Self::flush).
    pub fn put(&mut self, entry: &Entry) {
        let bytes = &mut self.bytes;
        match entry {
            Entry::Activity(activity) => put_activity(activity, bytes),
            Entry::Clock { activity_ns, unix_ns } => {
                bytes.push(CLOCK);
                activity_ns.put(bytes);
                unix_ns.put(bytes);
            }
            Entry::Dropped(count) => {
                bytes.push(DROPPED);
                count.put(bytes);
            }
            Entry::Remark(text) => {
                bytes.push(REMARK);
                text.put(bytes);
            }
            Entry::End => bytes.push(END),
        }
    }

    /// Writes what was added. A file that has grown too large takes nothing more, and its last entry says so. Neither
    /// does one that could not be written once, since its last entry may have been cut off.
    ///
    /// # Errors
    /// Where it cannot be written; what was added is lost then.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.is_full {
            self.bytes.clear();
            return Ok(());
        }
        self.written += self.bytes.len() as u64;
        if self.written > self.most {
            self.is_full = true;
            let remark = format!("after {} MB nothing more was kept", self.most / 1_000_000);
            self.put(&Entry::Remark(remark));
        }
        let result = self.file.write_all(&self.bytes);
        self.is_full |= result.is_err();
        self.bytes.clear();
        result
    }
}

fn put_activity(activity: &Activity, bytes: &mut Vec<u8>) {
    let mut put = |tag: u8, record: &dyn Fn(&mut Vec<u8>)| {
        bytes.push(tag);
        record(bytes);
    };
    match activity {
        Activity::Call(call) => put(CALL, &|bytes| call.put(bytes)),
        Activity::Kernel(kernel) => put(KERNEL, &|bytes| kernel.put(bytes)),
        Activity::Copy(copy) => put(COPY, &|bytes| copy.put(bytes)),
        Activity::Fill(fill) => put(FILL, &|bytes| fill.put(bytes)),
        Activity::GraphRun(run) => put(GRAPH_RUN, &|bytes| run.put(bytes)),
        Activity::Stream(stream) => put(STREAM, &|bytes| stream.put(bytes)),
    }
}

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is something else, or of another version.
    #[error("it is no file of activities of this version")]
    NotActivities,
    /// An entry means nothing.
    #[error("the entry at byte {offset} means nothing")]
    Damaged {
        /// Where it is.
        offset: usize,
    },
}

/// Reads the entries of a file.
pub struct Reader<'a> {
    process: u32,
    program: String,
    names: Vec<String>,
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`FileError::NotActivities`] where it is none of ours, or of another version.
    pub fn begin(bytes: &'a [u8]) -> Result<Self, FileError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(FileError::NotActivities)?;
        let process = u32::take(&mut rest).ok_or(FileError::NotActivities)?;
        let program = String::take(&mut rest).ok_or(FileError::NotActivities)?;
        Ok(Self { process, program, names: Vec::new(), rest, length: bytes.len() })
    }

    /// The operating system's number of the watched process.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// What the watched process ran: the path of its program.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The next entry; `None` at the end, also where the last entry was cut off.
    ///
    /// # Errors
    /// [`FileError::Damaged`] where an entry has a tag that no entry has, or a name another number than its place.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, FileError> {
        loop {
            let Some((tag, mut rest)) = self.rest.split_first() else { return Ok(None) };
            if !(NAME..=END).contains(tag) {
                return Err(FileError::Damaged { offset: self.length - self.rest.len() });
            }
            if *tag != NAME {
                let entry = take_entry(*tag, &mut rest);
                self.rest = if entry.is_some() { rest } else { &[] };
                return Ok(entry);
            }
            let Some((id, name)) = take_name(&mut rest) else { return Ok(None) };
            if id.0 as usize != self.names.len() {
                return Err(FileError::Damaged { offset: self.length - self.rest.len() });
            }
            self.names.push(name);
            self.rest = rest;
        }
    }

    /// The texts of all names that have been read, in the order of their numbers.
    pub fn into_names(self) -> Vec<String> {
        self.names
    }

    /// The text of a name that has been read.
    pub fn name(&self, id: NameId) -> &str {
        self.names.get(id.0 as usize).map_or("", String::as_str)
    }
}

/// Names are numbered in the order in which they come.
fn take_name(rest: &mut &[u8]) -> Option<(NameId, String)> {
    Some((NameId::take(rest)?, String::take(rest)?))
}

fn take_entry(tag: u8, rest: &mut &[u8]) -> Option<Entry> {
    let activity = match tag {
        CALL => Activity::Call(Stored::take(rest)?),
        KERNEL => Activity::Kernel(Stored::take(rest)?),
        COPY => Activity::Copy(Stored::take(rest)?),
        FILL => Activity::Fill(Stored::take(rest)?),
        GRAPH_RUN => Activity::GraphRun(Stored::take(rest)?),
        STREAM => Activity::Stream(Stored::take(rest)?),
        CLOCK => return Some(Entry::Clock { activity_ns: u64::take(rest)?, unix_ns: u64::take(rest)? }),
        DROPPED => return Some(Entry::Dropped(u64::take(rest)?)),
        REMARK => return Some(Entry::Remark(String::take(rest)?)),
        _ => return Some(Entry::End),
    };
    Some(Entry::Activity(activity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::{
        Call, Copy, Direction, Fill, GraphRun, HostMemory, Kernel, Stream, StreamKind, Work,
    };

    const WORK: Work =
        Work { start_ns: 1, end_ns: u64::MAX, device: 2, context: 3, stream: 4, correlation: 5, graph: 6 };

    /// A file with an entry of each kind, and the entries.
    fn written() -> (Vec<u8>, Vec<Entry>) {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, 42, "/usr/bin/python3").unwrap();
        let (call, kernel) = (writer.name("cudaLaunchKernel"), writer.name("gemm"));
        assert_eq!(writer.name("cudaLaunchKernel"), call);
        let activities = [
            Activity::Call(Call { start_ns: 7, end_ns: 8, thread: 9, correlation: 5, name: call }),
            Activity::Kernel(Kernel {
                work: WORK,
                name: kernel,
                grid: [132, 2, 1],
                block: [256, 1, 1],
                registers: 168,
                shared_memory_bytes: 49_152,
            }),
            Activity::Copy(Copy {
                work: WORK,
                bytes: 1 << 40,
                direction: Direction::D2h,
                host_memory: HostMemory::Pageable,
            }),
            Activity::Fill(Fill { work: WORK, bytes: 3 }),
            Activity::GraphRun(GraphRun { work: WORK }),
            Activity::Stream(Stream { context: 1, stream: 7, kind: StreamKind::Default }),
        ];
        let mut entries: Vec<_> = activities.into_iter().map(Entry::Activity).collect();
        entries.push(Entry::Clock { activity_ns: 10, unix_ns: 11 });
        entries.push(Entry::Dropped(12));
        entries.push(Entry::Remark("no CUPTI".to_owned()));
        entries.push(Entry::End);
        entries.iter().for_each(|entry| writer.put(entry));
        writer.flush().unwrap();
        (file, entries)
    }

    fn read(mut reader: Reader<'_>) -> Vec<Entry> {
        std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (file, entries) = written();
        let reader = Reader::begin(&file).unwrap();
        assert_eq!((reader.process(), reader.program()), (42, "/usr/bin/python3"));
        assert_eq!(read(reader), entries);
    }

    #[test]
    fn names_are_known_once_they_were_read() {
        let (file, _) = written();
        let mut reader = Reader::begin(&file).unwrap();
        let mut called = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            match entry {
                Entry::Activity(Activity::Call(call)) => called.push(reader.name(call.name).to_owned()),
                Entry::Activity(Activity::Kernel(kernel)) => called.push(reader.name(kernel.name).to_owned()),
                _ => {}
            }
        }
        assert_eq!(called, ["cudaLaunchKernel", "gemm"]);
        assert_eq!(reader.name(NameId(7)), "", "a name that nobody wrote");
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_gives_what_was_whole() {
        let (file, entries) = written();
        let head = MAGIC.len() + 4 + 4 + "/usr/bin/python3".len();
        for length in 0..file.len() {
            let reader = Reader::begin(&file[..length]);
            assert_eq!(reader.is_ok(), length >= head, "{length} bytes");
            let Ok(reader) = reader else { continue };
            let read = read(reader);
            assert!(read.len() < entries.len() && entries.starts_with(&read), "{length} bytes");
        }
    }

    /// Takes so many bytes, fails once, and has room again.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                self.room = usize::MAX;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.room);
            self.bytes.extend_from_slice(&bytes[..taken]);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_follows_an_entry_that_a_full_disk_has_cut_off() {
        let head = MAGIC.len() + 4 + 4 + 1;
        let mut disk = Disk { bytes: Vec::new(), room: head + 9 + 4 };
        let mut writer = Writer::begin(&mut disk, 42, "x").unwrap();
        writer.put(&Entry::Dropped(1));
        writer.put(&Entry::Dropped(2));
        assert_eq!(writer.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
        writer.put(&Entry::End);
        writer.flush().unwrap();
        drop(writer);
        assert_eq!(read(Reader::begin(&disk.bytes).unwrap()), [Entry::Dropped(1)]);
    }

    #[test]
    fn a_file_that_is_full_takes_nothing_more_and_says_so() {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, 42, "x").unwrap().at_most(20);
        for count in 0..4 {
            writer.put(&Entry::Dropped(count));
            writer.flush().unwrap();
        }
        let remark = Entry::Remark("after 0 MB nothing more was kept".to_owned());
        let expected = [Entry::Dropped(0), Entry::Dropped(1), Entry::Dropped(2), remark];
        assert_eq!(read(Reader::begin(&file).unwrap()), expected);
    }

    #[test]
    fn a_name_with_the_number_of_another_is_refused() {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, 42, "x").unwrap();
        writer.name("a");
        writer.flush().unwrap();
        let name = file.split_off(MAGIC.len() + 4 + 4 + 1);
        let file = [&file[..], &name, &name].concat();
        let mut reader = Reader::begin(&file).unwrap();
        assert_eq!(reader.next_entry(), Err(FileError::Damaged { offset: file.len() - name.len() }));
    }

    #[test]
    fn other_files_and_unknown_entries_are_refused() {
        assert_eq!(Reader::begin(b"thalweg activity 2\n\0\0").err(), Some(FileError::NotActivities));
        let (mut file, _) = written();
        let length = file.len();
        file.push(99);
        let mut reader = Reader::begin(&file).unwrap();
        let error = loop {
            match reader.next_entry() {
                Ok(entry) => assert!(entry.is_some(), "the last entry means nothing"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, FileError::Damaged { offset: length });
    }
}
