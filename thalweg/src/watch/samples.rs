//! Programs made by hand, as files of activities, for the tests.

use thalweg_nvidia::activity::{
    Activity, Call, Copy, Direction, Entry, Fill, GraphRun, HostMemory, Kernel, Stream, StreamKind, Work,
    Writer,
};

use super::Program;

/// A microsecond and a millisecond, in nanoseconds.
pub const US: u64 = 1_000;
pub const MS: u64 = 1_000_000;

/// Builds a program, call by call. Work belongs to the call before it.
pub struct Sample {
    activities: Vec<Entry>,
    names: Vec<String>,
    correlation: u32,
    thread: u32,
    stream: u32,
    work_count: usize,
}

impl Sample {
    /// The world's clock when that of activities shows 1.
    pub const UNIX_NS: u64 = 1_700_000_000_000_000_000;
    /// Blocks of a kernel: as many as an H100 has SMs.
    const BLOCKS: u32 = 132;

    pub fn new() -> Self {
        let clock = Entry::Clock { activity_ns: 1, unix_ns: Self::UNIX_NS };
        Self {
            activities: vec![clock],
            names: Vec::new(),
            correlation: 0,
            thread: 4242,
            stream: 7,
            work_count: 0,
        }
    }

    pub fn on_stream(&mut self, stream: u32) -> &mut Self {
        self.stream = stream;
        self
    }

    pub fn on_thread(&mut self, thread: u32) -> &mut Self {
        self.thread = thread;
        self
    }

    pub fn stream(&mut self, stream: u32, kind: StreamKind) {
        self.add(Activity::Stream(Stream { context: 1, stream, kind }));
    }

    pub fn call(&mut self, name: &str, start: u64, end: u64) {
        self.correlation += 1;
        let name = self.name(name);
        let (start_ns, end_ns) = (start + 1, end + 1);
        let (thread, correlation) = (self.thread, self.correlation);
        self.add(Activity::Call(Call { start_ns, end_ns, thread, correlation, name }));
    }

    /// A kernel that fills the device. Gives its place among all work, where work comes by start.
    pub fn kernel(&mut self, name: &str, start: u64, end: u64) -> usize {
        self.kernel_of(Self::BLOCKS, name, (start, end))
    }

    pub fn kernel_of(&mut self, blocks: u32, name: &str, (start, end): (u64, u64)) -> usize {
        let name = self.name(name);
        let (grid, block) = ([blocks, 1, 1], [256, 1, 1]);
        let work = self.work(start, end);
        self.add(Activity::Kernel(Kernel { work, name, grid, block, registers: 32, shared_memory_bytes: 0 }));
        self.work_count - 1
    }

    pub fn copy(&mut self, direction: Direction, host_memory: HostMemory, bytes: u64, span: (u64, u64)) {
        let work = self.work(span.0, span.1);
        self.add(Activity::Copy(Copy { work, bytes, direction, host_memory }));
    }

    pub fn fill(&mut self, start: u64, end: u64) {
        let work = self.work(start, end);
        self.add(Activity::Fill(Fill { work, bytes: 1 << 20 }));
    }

    pub fn graph(&mut self, start: u64, end: u64) {
        let work = Work { graph: 1, ..self.work(start, end) };
        self.add(Activity::GraphRun(GraphRun { work }));
    }

    pub fn program(&self) -> Program {
        Program::from_bytes(&self.file()).unwrap()
    }

    pub fn file(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, 42, "/usr/bin/python3").unwrap();
        for name in &self.names {
            writer.name(name);
        }
        self.activities.iter().for_each(|entry| writer.put(entry));
        writer.put(&Entry::End);
        writer.flush().unwrap();
        file
    }

    fn work(&mut self, start: u64, end: u64) -> Work {
        self.work_count += 1;
        Work {
            start_ns: start + 1,
            end_ns: end + 1,
            device: 0,
            context: 1,
            stream: self.stream,
            correlation: self.correlation,
            graph: 0,
        }
    }

    fn name(&mut self, text: &str) -> thalweg_nvidia::activity::NameId {
        let place = self.names.iter().position(|name| name == text).unwrap_or_else(|| {
            self.names.push(text.to_owned());
            self.names.len() - 1
        });
        thalweg_nvidia::activity::NameId(u32::try_from(place).unwrap())
    }

    fn add(&mut self, activity: Activity) {
        self.activities.push(Entry::Activity(activity));
    }
}

/// A program that copies, computes and waits for each item, as they are often written.
pub fn naive(items: u64) -> Sample {
    let mut sample = Sample::new();
    for item in 0..items {
        let at = item * 2 * MS;
        sample.call("cudaMemcpyAsync", at, at + MS);
        sample.copy(Direction::H2d, HostMemory::Pageable, 10_000_000, (at, at + MS));
        sample.call("cudaLaunchKernel", at + MS + 10 * US, at + MS + 15 * US);
        sample.kernel("gemm", at + MS + 20 * US, at + MS + 520 * US);
        sample.call("cudaStreamSynchronize", at + MS + 16 * US, at + MS + 525 * US);
    }
    sample
}
