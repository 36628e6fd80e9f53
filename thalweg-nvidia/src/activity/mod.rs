//! What a program did with its GPUs: calls of its threads, and what ran on the devices; and the file that it is kept in.
//!
//! In: what [`cupti`](crate::cupti) delivers inside the watched process. Out, in another process: the same
//! [`Activity`]s, in the order of their delivery. Both sides share the one definition of the file in here, which needs
//! no `unsafe`. What the activities say about the program is left to the reader.

mod file;
mod stored;

pub use file::{Entry, FileError, Reader, Writer};

use stored::stored;

/// A text that the file holds once: the name of a kernel or of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub u32);

/// One thing that happened. All times are of one clock, CUPTI's, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// A thread of the host called CUDA.
    Call(Call),
    /// A kernel ran.
    Kernel(Kernel),
    /// Memory was copied.
    Copy(Copy),
    /// Memory was set to a value.
    Fill(Fill),
    /// A CUDA graph ran as a whole; its kernels and copies are not told one by one.
    GraphRun(GraphRun),
    /// A stream was made.
    Stream(Stream),
}

stored! {
    /// Where and when something ran on a device.
    Work {
        /// Its start.
        start_ns: u64,
        /// Its end.
        end_ns: u64,
        /// CUDA's number of the device.
        device: u32,
        /// CUPTI's number of the CUDA context.
        context: u32,
        /// CUPTI's number of the stream in its context.
        stream: u32,
        /// The number of the call that asked for it.
        correlation: u32,
        /// CUPTI's number of the executable graph that it is a part of, 0 where it is of none.
        graph: u32,
    }
}

stored! {
    /// A call of the driver or the runtime.
    Call {
        /// When the thread went in.
        start_ns: u64,
        /// When it came back.
        end_ns: u64,
        /// The operating system's number of the thread.
        thread: u32,
        /// What work has that it asked for.
        correlation: u32,
        /// What NVIDIA calls it, without the version at the end.
        name: NameId,
    }
}

stored! {
    /// A kernel.
    Kernel {
        /// Where and when it ran.
        work: Work,
        /// Its name, mangled as the compiler left it.
        name: NameId,
        /// Blocks in x, y and z.
        grid: [u32; 3],
        /// Threads of a block in x, y and z.
        block: [u32; 3],
        /// Registers of each thread.
        registers: u16,
        /// Shared memory of each block, in bytes.
        shared_memory_bytes: u32,
    }
}

stored! {
    /// A copy.
    Copy {
        /// Where and when it ran.
        work: Work,
        /// Bytes that were copied.
        bytes: u64,
        /// From where to where.
        direction: Direction,
        /// What lies at the host's end, or at the source of a copy that has none.
        host_memory: HostMemory,
    }
}

stored! {
    /// Memory set to a value.
    Fill {
        /// Where and when it ran.
        work: Work,
        /// Bytes that were set.
        bytes: u64,
    }
}

stored! {
    /// One run of a CUDA graph.
    GraphRun {
        /// Where and when it ran; its stream is the one that it was launched in.
        work: Work,
    }
}

stored! {
    /// A stream.
    Stream {
        /// CUPTI's number of its context.
        context: u32,
        /// CUPTI's number for it in the context.
        stream: u32,
        /// How it was made.
        kind: StreamKind,
    }
}

/// From where to where a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Host to device.
    H2d,
    /// Device to host.
    D2h,
    /// Within a device.
    D2d,
    /// From one device to another.
    PeerToPeer,
    /// None of these.
    Other,
}

/// Memory of the host, as far as a copy engine cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum HostMemory {
    /// Page-locked: the copy engine reaches it by itself.
    Pinned,
    /// Pageable: the driver copies it through a buffer of its own, and the caller waits for that.
    Pageable,
    /// Managed, or not told.
    Other,
}

/// How a stream was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamKind {
    /// The one that nobody made: work in it and in blocking streams wait for each other.
    Default,
    /// By a program; it waits for the default stream and the default stream for it.
    Blocking,
    /// By a program, and independent of the default stream.
    NonBlocking,
    /// Not told.
    Unknown,
}
