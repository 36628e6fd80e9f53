//! The functions of the CUDA driver that this crate calls, and the constants that go with them.
//!
//! All of them exist in the driver of CUDA 11.4 and in every newer one. The names are those that the library
//! exports: a suffix `_v2` is the version that today's `cuda.h` means by the name without it. NVIDIA's
//! reference: <https://docs.nvidia.com/cuda/cuda-driver-api/index.html>.

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_ulonglong, c_void};

use crate::error::Result;
use crate::table::function_table;
use crate::version;

/// `CUdevice`.
pub(crate) type DeviceOrdinal = c_int;
/// `CUdeviceptr`.
pub(crate) type Address = u64;
/// `CUcontext`, `CUstream`, `CUevent`, `CUgraph` and `CUgraphExec` are all pointers to structs of the driver's own.
pub(crate) type Opaque = *mut c_void;

/// `CUDA_ERROR_NOT_READY`: the work is not finished, which is no failure.
const NOT_READY: c_int = 600;

/// `CU_MEMHOSTALLOC_PORTABLE`: page-locked for every context.
pub(crate) const HOST_MEMORY_PORTABLE: c_uint = 1;
/// `CU_MEMHOSTALLOC_WRITECOMBINED`.
pub(crate) const HOST_MEMORY_WRITE_COMBINED: c_uint = 4;
/// `CU_STREAM_NON_BLOCKING`: does not wait for the default stream.
pub(crate) const STREAM_NON_BLOCKING: c_uint = 1;
/// `CU_EVENT_BLOCKING_SYNC`.
pub(crate) const EVENT_BLOCKING_SYNC: c_uint = 1;
/// `CU_EVENT_DISABLE_TIMING`.
pub(crate) const EVENT_DISABLE_TIMING: c_uint = 2;
/// `CU_EVENT_RECORD_EXTERNAL`: inside a capture, a node of its own that records the event at each launch.
pub(crate) const EVENT_RECORD_EXTERNAL: c_uint = 1;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`: other threads may go on allocating.
pub(crate) const CAPTURE_THREAD_LOCAL: c_int = 1;

function_table! {
    /// Functions of `libcuda.so.1` with the parameters of `cuda.h` (CUDA 12.9).
    DriverApi
    checked {
        "cuInit" init(flags: c_uint);
        "cuDeviceGetCount" device_count(count: *mut c_int);
        "cuDeviceGet" device(device: *mut DeviceOrdinal, index: c_int);
        "cuDeviceGetName" device_name(name: *mut c_char, length: c_int, device: DeviceOrdinal);
        "cuDeviceGetUuid_v2" device_uuid(uuid: *mut [u8; 16], device: DeviceOrdinal);
        "cuDeviceGetPCIBusId" device_pci_bus_id(text: *mut c_char, length: c_int, device: DeviceOrdinal);
        "cuDeviceTotalMem_v2" device_total_memory(bytes: *mut usize, device: DeviceOrdinal);
        "cuDeviceGetAttribute" device_attribute(value: *mut c_int, attribute: c_int, device: DeviceOrdinal);
        "cuDevicePrimaryCtxSetFlags_v2" primary_context_set_flags(device: DeviceOrdinal, flags: c_uint);
        "cuDevicePrimaryCtxRetain" primary_context_retain(context: *mut Opaque, device: DeviceOrdinal);
        "cuDevicePrimaryCtxRelease_v2" primary_context_release(device: DeviceOrdinal);
        "cuCtxSetCurrent" context_set_current(context: Opaque);
        "cuCtxSynchronize" context_synchronize();
        "cuCtxGetStreamPriorityRange" stream_priority_range(least: *mut c_int, greatest: *mut c_int);
        "cuMemGetInfo_v2" memory_info(free: *mut usize, total: *mut usize);
        "cuMemAlloc_v2" memory_allocate(address: *mut Address, byte_count: usize);
        "cuMemFree_v2" memory_free(address: Address);
        "cuMemHostAlloc" host_memory_allocate(memory: *mut *mut c_void, byte_count: usize, flags: c_uint);
        "cuMemFreeHost" host_memory_free(memory: *mut c_void);
        "cuMemsetD8Async" memory_fill(address: Address, value: c_uchar, byte_count: usize, stream: Opaque);
        "cuMemcpyHtoDAsync_v2" copy_h2d(target: Address, source: *const c_void, byte_count: usize, stream: Opaque);
        "cuMemcpyDtoHAsync_v2" copy_d2h(target: *mut c_void, source: Address, byte_count: usize, stream: Opaque);
        "cuMemcpyDtoDAsync_v2" copy_d2d(target: Address, source: Address, byte_count: usize, stream: Opaque);
        "cuStreamCreateWithPriority" stream_create(stream: *mut Opaque, flags: c_uint, priority: c_int);
        "cuStreamDestroy_v2" stream_destroy(stream: Opaque);
        "cuStreamSynchronize" stream_synchronize(stream: Opaque);
        "cuStreamWaitEvent" stream_wait_event(stream: Opaque, event: Opaque, flags: c_uint);
        "cuStreamBeginCapture_v2" stream_begin_capture(stream: Opaque, mode: c_int);
        "cuStreamEndCapture" stream_end_capture(stream: Opaque, graph: *mut Opaque);
        "cuEventCreate" event_create(event: *mut Opaque, flags: c_uint);
        "cuEventDestroy_v2" event_destroy(event: Opaque);
        "cuEventRecord" event_record(event: Opaque, stream: Opaque);
        "cuEventRecordWithFlags" event_record_with_flags(event: Opaque, stream: Opaque, flags: c_uint);
        "cuEventSynchronize" event_synchronize(event: Opaque);
        "cuEventElapsedTime" event_elapsed(milliseconds: *mut f32, start: Opaque, end: Opaque);
        "cuGraphGetNodes" graph_nodes(graph: Opaque, nodes: *mut Opaque, count: *mut usize);
        "cuGraphInstantiateWithFlags" graph_instantiate(executable: *mut Opaque, graph: Opaque, flags: c_ulonglong);
        "cuGraphUpload" graph_upload(executable: Opaque, stream: Opaque);
        "cuGraphLaunch" graph_launch(executable: Opaque, stream: Opaque);
        "cuGraphExecDestroy" graph_executable_destroy(executable: Opaque);
        "cuGraphDestroy" graph_destroy(graph: Opaque);
    }
    polled {
        "cuEventQuery" event_query(event: Opaque);
        "cuStreamQuery" stream_query(stream: Opaque);
    }
}

impl DriverApi {
    /// What a query says: finished or not, or that the work failed.
    pub(crate) fn is_finished(&self, function: &'static str, code: c_int) -> Result<bool> {
        if code == NOT_READY {
            return Ok(false);
        }
        version::check(self.library(), function, code).map(|()| true)
    }
}

/// A handle of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(pub(crate) Opaque);

// SAFETY: the driver synchronises its own objects, and a context may be current to several threads at once; only
// graphs are not synchronised, as <https://docs.nvidia.com/cuda/cuda-driver-api/graphs-thread-safety.html> says.
// `Graph` therefore takes `&mut self` where it is used, and is the only owner of its handle.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}
