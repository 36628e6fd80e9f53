//! CUPTI's records as [`Activity`]s: bytes in, plain data out.

use crate::activity::{
    Activity, Call, Copy, Direction, Fill, GraphRun, HostMemory, Kernel, NameId, Stream, StreamKind, Work,
};
use crate::cupti::api::{DOMAIN_DRIVER, DOMAIN_RUNTIME, kind};
use crate::cupti::layout;

/// One record, as far as its fields are read.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    kind: u32,
    bytes: &'a [u8],
}

/// What a record says instead of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum NameSource {
    /// The address of a text of CUPTI's, zero at its end.
    Text(u64),
    /// A call's number in the driver's or the runtime's list.
    Call { domain: u32, id: u32 },
}

/// Bytes that are read of a record of this kind; `None` for kinds that are not looked at.
pub(super) fn length(kind: u32) -> Option<usize> {
    match kind {
        kind::KERNEL | kind::CONCURRENT_KERNEL => Some(layout::kernel::LENGTH),
        kind::MEMCPY => Some(layout::memcpy::LENGTH),
        kind::MEMSET => Some(layout::memset::LENGTH),
        kind::DRIVER | kind::RUNTIME => Some(layout::api::LENGTH),
        kind::STREAM => Some(layout::stream::LENGTH),
        kind::GRAPH_TRACE => Some(layout::graph_trace::LENGTH),
        _ => None,
    }
}

/// Where and when it ran, by the offsets of a layout: all records of work have these fields, each at its own place.
macro_rules! work_of {
    ($record:ident, $at:ident) => {
        Work {
            start_ns: $record.u64($at::START),
            end_ns: $record.u64($at::END),
            device: $record.u32($at::DEVICE_ID),
            context: $record.u32($at::CONTEXT_ID),
            stream: $record.u32($at::STREAM_ID),
            correlation: $record.u32($at::CORRELATION_ID),
            graph: $record.u32($at::GRAPH_ID),
        }
    };
}

impl<'a> Record<'a> {
    /// A record of so many bytes as [`length`] says.
    pub(super) fn new(kind: u32, bytes: &'a [u8]) -> Self {
        Self { kind, bytes }
    }

    /// What it tells; `None` where that is nothing: of a kind that is not looked at, without a name (`name` says
    /// `None`), or without times, as records are that were delivered before they were complete.
    pub(super) fn activity(self, mut name: impl FnMut(NameSource) -> Option<NameId>) -> Option<Activity> {
        let activity = match self.kind {
            kind::KERNEL | kind::CONCURRENT_KERNEL => self.kernel(name(self.kernel_name())?),
            kind::MEMCPY => self.copy(),
            kind::MEMSET => self.fill(),
            kind::DRIVER => self.call(name(self.call_name(DOMAIN_DRIVER))?),
            kind::RUNTIME => self.call(name(self.call_name(DOMAIN_RUNTIME))?),
            kind::STREAM => self.stream(),
            kind::GRAPH_TRACE => self.graph_run(),
            _ => return None,
        };
        let (start, end) = match &activity {
            Activity::Call(call) => (call.start_ns, call.end_ns),
            Activity::Kernel(Kernel { work, .. })
            | Activity::Copy(Copy { work, .. })
            | Activity::Fill(Fill { work, .. })
            | Activity::GraphRun(GraphRun { work }) => (work.start_ns, work.end_ns),
            Activity::Stream(_) => return Some(activity),
        };
        (start > 0 && end >= start).then_some(activity)
    }

    fn kernel_name(self) -> NameSource {
        NameSource::Text(self.u64(layout::kernel::NAME))
    }

    fn call_name(self, domain: u32) -> NameSource {
        NameSource::Call { domain, id: self.u32(layout::api::CBID) }
    }

    fn kernel(self, name: NameId) -> Activity {
        use layout::kernel as at;
        Activity::Kernel(Kernel {
            work: work_of!(self, at),
            name,
            grid: [at::GRID_X, at::GRID_Y, at::GRID_Z].map(|offset| self.u32(offset)),
            block: [at::BLOCK_X, at::BLOCK_Y, at::BLOCK_Z].map(|offset| self.u32(offset)),
            registers: self.u16(at::REGISTERS_PER_THREAD),
            shared_memory_bytes: self
                .u32(at::STATIC_SHARED_MEMORY)
                .saturating_add(self.u32(at::DYNAMIC_SHARED_MEMORY)),
        })
    }

    fn copy(self) -> Activity {
        use layout::memcpy as at;
        let direction = direction(self.u8(at::COPY_KIND));
        let end_at_host = if direction == Direction::D2h { at::DST_KIND } else { at::SRC_KIND };
        Activity::Copy(Copy {
            work: work_of!(self, at),
            bytes: self.u64(at::BYTES),
            direction,
            host_memory: host_memory(self.u8(end_at_host)),
        })
    }

    fn fill(self) -> Activity {
        use layout::memset as at;
        Activity::Fill(Fill { work: work_of!(self, at), bytes: self.u64(at::BYTES) })
    }

    fn call(self, name: NameId) -> Activity {
        use layout::api as at;
        Activity::Call(Call {
            start_ns: self.u64(at::START),
            end_ns: self.u64(at::END),
            thread: self.u32(at::THREAD_ID),
            correlation: self.u32(at::CORRELATION_ID),
            name,
        })
    }

    fn stream(self) -> Activity {
        use layout::stream as at;
        Activity::Stream(Stream {
            context: self.u32(at::CONTEXT_ID),
            stream: self.u32(at::STREAM_ID),
            kind: stream_kind(self.u32(at::FLAG)),
        })
    }

    fn graph_run(self) -> Activity {
        use layout::graph_trace as at;
        Activity::GraphRun(GraphRun { work: work_of!(self, at) })
    }

    fn u8(self, offset: usize) -> u8 {
        self.bytes[offset]
    }

    fn u16(self, offset: usize) -> u16 {
        u16::from_ne_bytes(self.chunk(offset))
    }

    fn u32(self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.chunk(offset))
    }

    fn u64(self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.chunk(offset))
    }

    fn chunk<const SIZE: usize>(self, offset: usize) -> [u8; SIZE] {
        let bytes = self.bytes[offset..].first_chunk();
        *bytes.expect("bug: a record is as long as its last field")
    }
}

/// `CUpti_ActivityMemcpyKind`.
fn direction(number: u8) -> Direction {
    match number {
        1 | 3 => Direction::H2d,
        2 | 4 => Direction::D2h,
        5..=8 => Direction::D2d,
        10 => Direction::PeerToPeer,
        _ => Direction::Other,
    }
}

/// `CUpti_ActivityMemoryKind`.
fn host_memory(number: u8) -> HostMemory {
    match number {
        1 => HostMemory::Pageable,
        2 => HostMemory::Pinned,
        _ => HostMemory::Other,
    }
}

/// `CUpti_ActivityStreamFlag`.
fn stream_kind(number: u32) -> StreamKind {
    match number {
        1 => StreamKind::Blocking,
        2 => StreamKind::NonBlocking,
        3 => StreamKind::Default,
        _ => StreamKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of a kind with these fields, and no other byte of it zero.
    fn bytes(kind: u32, fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0xA5; length(kind).unwrap()];
        for (offset, field) in fields {
            bytes[*offset..offset + field.len()].copy_from_slice(field);
        }
        bytes
    }

    fn read(kind: u32, fields: &[(usize, &[u8])]) -> Option<Activity> {
        let bytes = bytes(kind, fields);
        Record::new(kind, &bytes).activity(|source| match source {
            NameSource::Text(0xBEEF) => Some(NameId(1)),
            NameSource::Call { domain: DOMAIN_RUNTIME, id: 211 } => Some(NameId(2)),
            _ => None,
        })
    }

    // Offsets are written out: they are those that a C compiler gives for the structures of CUPTI 11.8 to 13.4.
    const WORK: Work =
        Work { start_ns: 1000, end_ns: 1500, device: 0, context: 1, stream: 7, correlation: 99, graph: 0 };

    #[test]
    fn a_kernel_has_its_shape_its_stream_and_its_call() {
        let fields: [(usize, &[u8]); 14] = [
            (6, &40_u16.to_ne_bytes()),
            (16, &1000_u64.to_ne_bytes()),
            (24, &1500_u64.to_ne_bytes()),
            (40, &0_u32.to_ne_bytes()),
            (44, &1_u32.to_ne_bytes()),
            (48, &7_u32.to_ne_bytes()),
            (52, &[132, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]),
            (64, &[0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]),
            (76, &16_u32.to_ne_bytes()),
            (80, &1024_u32.to_ne_bytes()),
            (92, &99_u32.to_ne_bytes()),
            (104, &0xBEEF_u64.to_ne_bytes()),
            (156, &0_u32.to_ne_bytes()),
            (144, &[0; 8]),
        ];
        let expected = Kernel {
            work: WORK,
            name: NameId(1),
            grid: [132, 2, 3],
            block: [256, 1, 1],
            registers: 40,
            shared_memory_bytes: 1040,
        };
        assert_eq!(read(kind::CONCURRENT_KERNEL, &fields), Some(Activity::Kernel(expected)));
    }

    fn copy(kinds: [u8; 3]) -> Copy {
        let fields: [(usize, &[u8]); 9] = [
            (4, &kinds),
            (8, &4096_u64.to_ne_bytes()),
            (16, &1000_u64.to_ne_bytes()),
            (24, &1500_u64.to_ne_bytes()),
            (32, &0_u32.to_ne_bytes()),
            (36, &1_u32.to_ne_bytes()),
            (40, &7_u32.to_ne_bytes()),
            (44, &99_u32.to_ne_bytes()),
            (72, &0_u32.to_ne_bytes()),
        ];
        match read(kind::MEMCPY, &fields) {
            Some(Activity::Copy(copy)) => copy,
            other => panic!("no copy: {other:?}"),
        }
    }

    #[test]
    fn a_copy_says_what_lies_at_the_host_on_whichever_side_that_is() {
        let upload = copy([1, 1, 3]);
        assert_eq!((upload.work, upload.bytes), (WORK, 4096));
        assert_eq!((upload.direction, upload.host_memory), (Direction::H2d, HostMemory::Pageable));
        let download = copy([2, 3, 2]);
        assert_eq!((download.direction, download.host_memory), (Direction::D2h, HostMemory::Pinned));
        assert_eq!(copy([8, 3, 3]).direction, Direction::D2d);
    }

    fn call(kind: u32, id: u32, end: u64) -> Option<Activity> {
        let fields: [(usize, &[u8]); 5] = [
            (4, &id.to_ne_bytes()),
            (8, &1000_u64.to_ne_bytes()),
            (16, &end.to_ne_bytes()),
            (28, &4242_u32.to_ne_bytes()),
            (32, &99_u32.to_ne_bytes()),
        ];
        read(kind, &fields)
    }

    #[test]
    fn a_call_has_its_thread_and_needs_a_name() {
        let expected = Call { start_ns: 1000, end_ns: 1500, thread: 4242, correlation: 99, name: NameId(2) };
        assert_eq!(call(kind::RUNTIME, 211, 1500), Some(Activity::Call(expected)));
        assert_eq!(call(kind::DRIVER, 211, 1500), None, "a number of the driver's is another call");
    }

    #[test]
    fn records_without_times_and_of_other_kinds_tell_nothing() {
        assert_eq!(call(kind::RUNTIME, 211, 0), None);
        assert_eq!(Record::new(17, &[]).activity(|_| Some(NameId(0))), None);
        assert_eq!(length(17), None);
    }

    #[test]
    fn graph_runs_fills_and_streams_are_read() {
        let graph: [(usize, &[u8]); 7] = [
            (4, &99_u32.to_ne_bytes()),
            (8, &1000_u64.to_ne_bytes()),
            (16, &1500_u64.to_ne_bytes()),
            (24, &0_u32.to_ne_bytes()),
            (28, &5_u32.to_ne_bytes()),
            (32, &1_u32.to_ne_bytes()),
            (36, &7_u32.to_ne_bytes()),
        ];
        let expected = GraphRun { work: Work { graph: 5, ..WORK } };
        assert_eq!(read(kind::GRAPH_TRACE, &graph), Some(Activity::GraphRun(expected)));
        let stream: [(usize, &[u8]); 3] =
            [(4, &1_u32.to_ne_bytes()), (8, &7_u32.to_ne_bytes()), (16, &3_u32.to_ne_bytes())];
        let expected = Stream { context: 1, stream: 7, kind: StreamKind::Default };
        assert_eq!(read(kind::STREAM, &stream), Some(Activity::Stream(expected)));
        let fill: [(usize, &[u8]); 8] = [
            (8, &64_u64.to_ne_bytes()),
            (16, &1000_u64.to_ne_bytes()),
            (24, &1500_u64.to_ne_bytes()),
            (32, &0_u32.to_ne_bytes()),
            (36, &1_u32.to_ne_bytes()),
            (40, &7_u32.to_ne_bytes()),
            (44, &99_u32.to_ne_bytes()),
            (72, &0_u32.to_ne_bytes()),
        ];
        assert_eq!(read(kind::MEMSET, &fill), Some(Activity::Fill(Fill { work: WORK, bytes: 64 })));
    }
}
