//! One process of a watched program: its file of activities, put in order.
//!
//! Calls that ran inside others, as the driver's do inside the runtime's, are left out, and what the device did belongs
//! to the outermost.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use thalweg_nvidia::activity::{self, Activity, Entry, NameId, Reader, StreamKind, Work};

use super::CallKind;
use crate::backend::Span;
use crate::error::{Error, Result};
use crate::units::Nanos;

pub use thalweg_nvidia::activity::{Direction, HostMemory};

/// How the names of files of activities end.
const EXTENSION: &str = "activity";

/// CUPTI's number of the default stream, for the case that no record told which it is: the driver makes six streams of
/// its own first, in every version that was seen.
const USUAL_DEFAULT_STREAM: u32 = 7;

/// What one process did. Times count from the first thing that it did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// The operating system's number of the process.
    pub process: u32,
    /// The file that it ran.
    pub path: String,
    /// Calls that were in no other call, by thread, then by time.
    pub calls: Vec<HostCall>,
    /// What ran on devices, by start.
    pub work: Vec<DeviceWork>,
    /// Streams with work, in the order of their first.
    pub streams: Vec<StreamOfProgram>,
    /// Nanoseconds since 1970 at time zero, where that is known.
    pub unix_start: Option<Nanos>,
    /// Activities that were lost for want of memory.
    pub dropped: u64,
    /// What the recording said about itself.
    pub remarks: Vec<String>,
    /// Whether the recording has its end: the process did not crash.
    pub is_whole: bool,
    names: Vec<String>,
}

/// A call of CUDA.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostCall {
    /// From going in to coming back.
    pub span: Span,
    /// The operating system's number of the thread.
    pub thread: u32,
    /// Its name.
    pub name: NameId,
    /// What it is for.
    pub kind: CallKind,
    /// Whether it came back no sooner than what it asked for was done, and that was something to wait for: it
    /// synchronises, is a blocking copy, or a copy to pageable memory.
    pub is_waiting: bool,
}

/// Something that ran on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceWork {
    /// When it ran.
    pub span: Span,
    /// CUDA's number of the device.
    pub device: u32,
    /// Which of [`Program::streams`] it ran in.
    pub stream: usize,
    /// Which of [`Program::calls`] asked for it, where that was recorded.
    pub call: Option<usize>,
    /// What it was.
    pub what: What,
}

/// What ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A kernel.
    Kernel {
        /// Its name.
        name: NameId,
        /// Its blocks.
        blocks: u64,
        /// Threads of each block.
        threads: u64,
        /// Registers of each thread.
        registers: u16,
        /// Shared memory of each block, in bytes.
        shared_memory_bytes: u32,
        /// Whether it ran as a part of a CUDA graph.
        is_in_graph: bool,
    },
    /// A CUDA graph, as a whole.
    Graph,
    /// A copy.
    Copy {
        /// Its bytes.
        bytes: u64,
        /// From where to where.
        direction: Direction,
        /// What lies at the host's end.
        host_memory: HostMemory,
    },
    /// Memory that was set.
    Fill,
}

/// A stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOfProgram {
    /// CUPTI's number of its context.
    pub context: u32,
    /// CUPTI's number for it.
    pub stream: u32,
    /// Whether it is the default stream.
    pub is_default: bool,
}

impl DeviceWork {
    /// Whether it computes: a kernel, or a graph.
    pub fn computes(&self) -> bool {
        matches!(self.what, What::Kernel { .. } | What::Graph)
    }
}

/// Reads the files of activities in a folder, the process that used its GPU longest first. Of a file that cannot be read,
/// as a process leaves that was killed before it wrote anything, there is a program without anything but a remark.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be read.
pub fn read_folder(folder: &Path) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            programs.push(Program::read(&path).unwrap_or_else(|error| Program::unreadable(&path, &error)));
        }
    }
    programs.sort_by_key(|program| (std::cmp::Reverse(program.device_time()), program.process));
    Ok(programs)
}

impl Program {
    /// Reads a file of activities.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::NotActivities`] where it is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        Self::from_bytes(&bytes)
            .map_err(|reason| Error::NotActivities { path: path.to_owned(), reason: reason.to_string() })
    }

    /// What is known of a process from the name of its file.
    fn unreadable(path: &Path, error: &Error) -> Self {
        let process = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or_default();
        Self {
            process,
            remarks: vec![format!("nothing is known of this process: {error}")],
            ..Self::default()
        }
    }

    /// Reads the bytes of a file of activities.
    ///
    /// # Errors
    /// Where they are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, activity::FileError> {
        let mut reader = Reader::begin(bytes)?;
        let mut raw = Raw::default();
        let mut program =
            Self { process: reader.process(), path: reader.program().to_owned(), ..Self::default() };
        let mut clock = None;
        while let Some(entry) = reader.next_entry()? {
            match entry {
                Entry::Activity(activity) => raw.add(activity),
                Entry::Clock { activity_ns, unix_ns } => clock = Some((activity_ns, unix_ns)),
                Entry::Dropped(count) => program.dropped = program.dropped.saturating_add(count),
                Entry::Remark(text) => program.remarks.push(text),
                Entry::End => program.is_whole = true,
            }
        }
        program.names = reader.into_names();
        let base = raw.first_ns();
        // The two numbers are of one moment, so that time zero is as long before the one as before the other.
        program.unix_start = clock
            .map(|(activity_ns, unix_ns)| Nanos(unix_ns.saturating_add(base).saturating_sub(activity_ns)));
        let by_correlation = program.add_calls(&raw.calls, base);
        program.add_work(raw, base, &by_correlation);
        Ok(program)
    }

    /// The text of a name.
    pub fn name(&self, name: NameId) -> &str {
        self.names.get(name.0 as usize).map_or("", String::as_str)
    }

    /// Where the calls of each thread are in [`calls`](Self::calls).
    pub fn threads(&self) -> Vec<(u32, Range<usize>)> {
        let mut threads: Vec<(u32, Range<usize>)> = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            match threads.last_mut() {
                Some((thread, range)) if *thread == call.thread => range.end = index + 1,
                _ => threads.push((call.thread, index..index + 1)),
            }
        }
        threads
    }

    /// The sum of the times of all work.
    pub fn device_time(&self) -> Nanos {
        self.work.iter().map(|work| work.span.duration()).sum()
    }

    /// What began in a span of another clock, with the calls that asked for it, on that clock: it shows zero at
    /// `unix_start`. `None` where this program's own time zero is not known.
    pub fn within(&self, span: Span, unix_start: Nanos) -> Option<Self> {
        let own_start = self.unix_start?;
        let there = |at: Nanos| at + own_start - unix_start;
        let moved = |it: Span| Span { start: there(it.start), end: there(it.end) };
        let is_in = |it: Span| (span.start..span.end).contains(&moved(it).start);
        let work: Vec<_> = self.work.iter().filter(|work| is_in(work.span)).collect();
        let asked: HashSet<usize> = work.iter().filter_map(|work| work.call).collect();
        let kept = self.calls.iter().enumerate();
        let kept: Vec<usize> = kept
            .filter(|(index, call)| asked.contains(index) || is_in(call.span))
            .map(|(index, _)| index)
            .collect();
        let place = |call: usize| kept.binary_search(&call).ok();
        Some(Self {
            calls: kept
                .iter()
                .map(|&index| self.calls[index])
                .map(|it| HostCall { span: moved(it.span), ..it })
                .collect(),
            work: work
                .into_iter()
                .map(|it| DeviceWork { span: moved(it.span), call: it.call.and_then(place), ..*it })
                .collect(),
            unix_start: Some(unix_start),
            streams: self.streams.clone(),
            path: self.path.clone(),
            names: self.names.clone(),
            remarks: self.remarks.clone(),
            ..*self
        })
    }

    /// Keeps the outermost calls, and gives the place of each, inner ones included, by correlation.
    fn add_calls(&mut self, raw: &[activity::Call], base: u64) -> HashMap<u32, usize> {
        let mut calls: Vec<&activity::Call> = raw.iter().collect();
        calls.sort_by_key(|call| (call.thread, call.start_ns, std::cmp::Reverse(call.end_ns)));
        let mut by_correlation = HashMap::with_capacity(calls.len());
        for call in calls {
            let span = span(call.start_ns, call.end_ns, base);
            let is_inner = self
                .calls
                .last()
                .is_some_and(|outer| outer.thread == call.thread && span.end <= outer.span.end);
            if !is_inner {
                let kind = CallKind::of(self.name(call.name));
                let is_waiting = kind == CallKind::Synchronise;
                let (thread, name) = (call.thread, call.name);
                self.calls.push(HostCall { span, thread, name, kind, is_waiting });
            }
            by_correlation.insert(call.correlation, self.calls.len() - 1);
        }
        by_correlation
    }

    fn add_work(&mut self, mut raw: Raw, base: u64, by_correlation: &HashMap<u32, usize>) {
        raw.work.sort_by_key(|(work, _)| (work.start_ns, work.end_ns));
        let mut places = HashMap::new();
        for (work, mut what) in raw.work {
            let stream = *places.entry((work.context, work.stream)).or_insert_with(|| {
                self.streams.push(StreamOfProgram {
                    context: work.context,
                    stream: work.stream,
                    is_default: raw
                        .streams
                        .get(&(work.context, work.stream))
                        .map_or(work.stream == USUAL_DEFAULT_STREAM, |kind| *kind == StreamKind::Default),
                });
                self.streams.len() - 1
            });
            let span = span(work.start_ns, work.end_ns, base);
            let call = by_correlation.get(&work.correlation).copied();
            if let Some(call) = call {
                self.note_waiting(call, span, what);
                if let What::Kernel { is_in_graph, .. } = &mut what {
                    *is_in_graph |= self.calls[call].kind == CallKind::GraphLaunch;
                }
            }
            self.work.push(DeviceWork { span, device: work.device, stream, call, what });
        }
    }

    /// A copy that the host has waited for is as good as a synchronisation.
    fn note_waiting(&mut self, call: usize, span: Span, what: What) {
        let is_async = self.name(self.calls[call].name).contains("Async");
        let waits = match what {
            What::Copy { direction: Direction::D2h, .. } => true,
            What::Copy { .. } => !is_async,
            _ => false,
        };
        let call = &mut self.calls[call];
        call.is_waiting |= waits && call.span.end >= span.end;
    }
}

/// Activities as they were read.
#[derive(Default)]
struct Raw {
    calls: Vec<activity::Call>,
    work: Vec<(Work, What)>,
    streams: HashMap<(u32, u32), StreamKind>,
}

impl Raw {
    fn add(&mut self, activity: Activity) {
        match activity {
            Activity::Call(call) => self.calls.push(call),
            Activity::Kernel(kernel) => {
                let volume = |sizes: [u32; 3]| {
                    sizes.iter().fold(1_u64, |all, size| all.saturating_mul(u64::from(*size)))
                };
                let what = What::Kernel {
                    name: kernel.name,
                    blocks: volume(kernel.grid),
                    threads: volume(kernel.block),
                    registers: kernel.registers,
                    shared_memory_bytes: kernel.shared_memory_bytes,
                    is_in_graph: kernel.work.graph != 0,
                };
                self.work.push((kernel.work, what));
            }
            Activity::Copy(activity::Copy { work, bytes, direction, host_memory }) => {
                self.work.push((work, What::Copy { bytes, direction, host_memory }));
            }
            Activity::Fill(fill) => self.work.push((fill.work, What::Fill)),
            Activity::GraphRun(run) => self.work.push((run.work, What::Graph)),
            Activity::Stream(stream) => {
                self.streams.insert((stream.context, stream.stream), stream.kind);
            }
        }
    }

    /// When the first thing happened.
    fn first_ns(&self) -> u64 {
        let calls = self.calls.iter().map(|call| call.start_ns);
        calls.chain(self.work.iter().map(|(work, _)| work.start_ns)).min().unwrap_or_default()
    }
}

fn span(start_ns: u64, end_ns: u64, base: u64) -> Span {
    Span { start: Nanos(start_ns.saturating_sub(base)), end: Nanos(end_ns.saturating_sub(base)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::watch::samples::{Sample, US, naive};
    use crate::watch::{Settings, observe};

    #[test]
    fn a_call_inside_of_another_is_left_out_and_its_work_is_the_outer_ones() {
        let mut sample = Sample::new();
        sample.call("cuLaunchKernel", 11 * US, 14 * US);
        let inner = sample.kernel("gemm", 20 * US, 30 * US);
        sample.call("cudaLaunchKernel", 10 * US, 15 * US);
        let program = sample.program();
        assert_eq!(program.calls.len(), 1);
        assert_eq!(program.name(program.calls[0].name), "cudaLaunchKernel");
        assert_eq!(program.work[inner].call, Some(0));
        assert_eq!(program.work[inner].span, Span { start: Nanos(10 * US), end: Nanos(20 * US) });
    }

    #[test]
    fn a_copy_to_the_host_that_was_waited_for_is_a_waiting_call() {
        let mut sample = Sample::new();
        sample.call("cudaMemcpyAsync", 0, 50 * US);
        sample.copy(Direction::D2h, HostMemory::Pageable, 1000, (10 * US, 45 * US));
        sample.call("cudaMemcpyAsync", 60 * US, 62 * US);
        sample.copy(Direction::D2h, HostMemory::Pinned, 1000, (65 * US, 70 * US));
        sample.call("cudaMemcpy", 80 * US, 99 * US);
        sample.copy(Direction::H2d, HostMemory::Pinned, 1000, (85 * US, 95 * US));
        let waits: Vec<_> = sample.program().calls.iter().map(|call| call.is_waiting).collect();
        assert_eq!(waits, [true, false, true]);
    }

    #[test]
    fn the_default_stream_is_the_one_that_is_told_and_else_the_seventh() {
        let mut sample = Sample::new();
        sample.on_stream(7).call("cudaLaunchKernel", 0, 1);
        sample.kernel("a", 2, 3);
        sample.on_stream(13).call("cudaLaunchKernel", 4, 5);
        sample.kernel("b", 6, 7);
        let is_default: Vec<_> = sample.program().streams.iter().map(|it| it.is_default).collect();
        assert_eq!(is_default, [true, false]);
        sample.stream(7, StreamKind::NonBlocking);
        sample.stream(13, StreamKind::Default);
        let is_default: Vec<_> = sample.program().streams.iter().map(|it| it.is_default).collect();
        assert_eq!(is_default, [false, true]);
    }

    #[test]
    fn kernels_that_a_graph_launch_has_asked_for_are_in_a_graph() {
        let mut sample = Sample::new();
        sample.call("cudaGraphLaunch", 0, 5 * US);
        sample.kernel("a", 6 * US, 7 * US);
        sample.call("cudaLaunchKernel", 6 * US, 7 * US);
        sample.kernel("a", 8 * US, 9 * US);
        let in_graph: Vec<_> = sample
            .program()
            .work
            .iter()
            .map(|work| matches!(work.what, What::Kernel { is_in_graph: true, .. }))
            .collect();
        assert_eq!(in_graph, [true, false]);
    }

    #[test]
    fn any_bytes_give_a_program_or_an_error() {
        let mut random = Random::new(7);
        let (file, mut errors) = (naive(5).file(), 0);
        for _ in 0..2000 {
            let mut file = file.clone();
            for _ in 0..3 {
                let place = random.below(file.len());
                file[place] = random.next_u64().to_le_bytes()[0];
            }
            match Program::from_bytes(&file) {
                Ok(program) => drop(observe(&program, &Settings::default())),
                Err(_) => errors += 1,
            }
        }
        assert!((1..2000).contains(&errors), "{errors} of 2000");
    }

    #[test]
    fn a_file_that_cannot_be_read_leaves_the_others_and_a_remark() {
        let folder = std::env::temp_dir().join(format!("thalweg-activities-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mut damaged = naive(1).file();
        damaged.push(99);
        for (name, bytes) in
            [("1.activity", &[][..]), ("42.activity", &naive(1).file()), ("7.activity", &damaged)]
        {
            fs::write(folder.join(name), bytes).unwrap();
        }
        let programs = read_folder(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let seen: Vec<_> = programs.iter().map(|it| (it.process, it.is_whole, it.remarks.len())).collect();
        assert_eq!(seen, [(42, true, 0), (1, false, 1), (7, false, 1)]);
        assert_eq!(observe(&programs[1], &Settings::default()).verdict, "nothing_ran");
        assert!(programs[2].remarks[0].contains("means nothing"), "{:?}", programs[2].remarks);
    }

    #[test]
    fn what_began_in_a_span_of_another_clock_is_cut_out_and_put_on_it() {
        // The other clock started a millisecond before the first call: item 1 is at 3 ms of it.
        let program = naive(4).program();
        let unix_start = Nanos(Sample::UNIX_NS - 1_000 * US);
        let span = Span { start: Nanos(4_000 * US), end: Nanos(6_000 * US) };
        let part = program.within(span, unix_start).unwrap();
        // The kernel of item 1, whose launch lies just in the span, and the copy of item 2 with its call.
        let starts: Vec<_> = part.work.iter().map(|work| work.span.start.0 / US).collect();
        assert_eq!(starts, [4_020, 5_000]);
        let asked: Vec<_> =
            part.work.iter().map(|work| part.name(part.calls[work.call.unwrap()].name)).collect();
        assert_eq!(asked, ["cudaLaunchKernel", "cudaMemcpyAsync"]);
        assert_eq!((part.calls.len(), part.unix_start), (3, Some(unix_start)));
        let clockless = Program { unix_start: None, ..program };
        assert_eq!(clockless.within(span, unix_start), None);
    }

    #[test]
    fn time_zero_is_known_on_the_worlds_clock() {
        let mut sample = Sample::new();
        sample.call("cudaLaunchKernel", 5 * US, 6 * US);
        let start = sample.program().unix_start;
        assert_eq!(start, Some(Nanos(Sample::UNIX_NS + 5 * US)));
    }
}
