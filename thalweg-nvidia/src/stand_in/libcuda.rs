// The driver's functions, over the model in libcuda_model.rs, which goes before this file when both are built.

#[no_mangle]
pub extern "C" fn cuInit(_flags: c_uint) -> c_int {
    call("cuInit", |_| 0)
}

#[no_mangle]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    *version = 12_090;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuGetErrorName(code: c_int, name: *mut *const c_char) -> c_int {
    let text = match code {
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        ILLEGAL_ADDRESS => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        CAPTURE_INVALIDATED => c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        _ => return INVALID_VALUE,
    };
    *name = text.as_ptr();
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> c_int {
    if code != OUT_OF_MEMORY {
        return INVALID_VALUE;
    }
    *text = c"out of memory".as_ptr();
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    *count = 1;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, index: c_int) -> c_int {
    *device = index;
    0
}

unsafe fn write(text: *mut c_char, value: &CStr) -> c_int {
    std::ptr::copy_nonoverlapping(value.as_ptr(), text, value.to_bytes_with_nul().len());
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, _length: c_int, _device: c_int) -> c_int {
    write(name, c"Stand-in")
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(text: *mut c_char, _length: c_int, _device: c_int) -> c_int {
    write(text, c"FFFF:00:00.0")
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], _device: c_int) -> c_int {
    *uuid = [7; 16];
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> c_int {
    *bytes = TOTAL_BYTES;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) -> c_int {
    *value = match attribute {
        13 => 1_980_000,
        16 => 132,
        18 => 0,
        40 => 3,
        75 => 9,
        76 => 0,
        _ => return INVALID_VALUE,
    };
    0
}

#[no_mangle]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(_device: c_int, _flags: c_uint) -> c_int {
    call("cuDevicePrimaryCtxSetFlags", |_| 0)
}

#[no_mangle]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut Handle, _device: c_int) -> c_int {
    call("cuDevicePrimaryCtxRetain", |state| {
        state.contexts += 1;
        unsafe { *context = 8 as Handle };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> c_int {
    call("cuDevicePrimaryCtxRelease", |state| {
        state.contexts -= 1;
        0
    })
}

#[no_mangle]
pub extern "C" fn cuCtxSetCurrent(_context: Handle) -> c_int {
    HAS_CONTEXT.set(true);
    0
}

#[no_mangle]
pub extern "C" fn cuCtxSynchronize() -> c_int {
    call_in_context("cuCtxSynchronize", |state| {
        state.run_until_none(|_| true);
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> c_int {
    *least = 0;
    *greatest = -5;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_int {
    call_in_context("cuMemGetInfo", |state| {
        let used: usize = state.device.values().map(Vec::len).sum();
        unsafe { (*free, *total) = (TOTAL_BYTES - used, TOTAL_BYTES) };
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, byte_count: usize) -> c_int {
    call_in_context("cuMemAlloc", |state| {
        if byte_count == 0 {
            return INVALID_VALUE;
        }
        if byte_count > TOTAL_BYTES {
            return OUT_OF_MEMORY;
        }
        let bytes = vec![0xEE; byte_count];
        let start = bytes.as_ptr() as usize;
        state.device.insert(start, bytes);
        unsafe { *address = start as u64 };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    call_in_context("cuMemFree", |state| {
        if state.device.remove(&(address as usize)).is_some() {
            0
        } else {
            INVALID_VALUE
        }
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuMemHostAlloc(memory: *mut Handle, byte_count: usize, _flags: c_uint) -> c_int {
    call_in_context("cuMemHostAlloc", |state| {
        if byte_count == 0 {
            return INVALID_VALUE;
        }
        let mut bytes = vec![0xEE; byte_count];
        let start = bytes.as_mut_ptr();
        state.host.insert(start as usize, bytes);
        unsafe { *memory = start.cast() };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuMemFreeHost(memory: Handle) -> c_int {
    call_in_context("cuMemFreeHost", |state| {
        if state.host.remove(&(memory as usize)).is_some() {
            0
        } else {
            INVALID_VALUE
        }
    })
}

#[no_mangle]
pub extern "C" fn cuMemsetD8Async(address: u64, value: u8, byte_count: usize, stream: Handle) -> c_int {
    call_in_context("cuMemsetD8Async", |state| {
        state.enqueue(stream, Op::Fill(address as usize, value, byte_count))
    })
}

#[no_mangle]
pub extern "C" fn cuMemcpyHtoDAsync_v2(
    target: u64,
    source: Handle,
    byte_count: usize,
    stream: Handle,
) -> c_int {
    call_in_context("cuMemcpyHtoDAsync", |state| {
        let is_pinned = State::is_allocated(&state.host, source as usize, byte_count);
        state.enqueue(stream, Op::Copy(target as usize, source as usize, byte_count, true, is_pinned))
    })
}

#[no_mangle]
pub extern "C" fn cuMemcpyDtoHAsync_v2(
    target: Handle,
    source: u64,
    byte_count: usize,
    stream: Handle,
) -> c_int {
    call_in_context("cuMemcpyDtoHAsync", |state| {
        let is_pinned = State::is_allocated(&state.host, target as usize, byte_count);
        state.enqueue(stream, Op::Copy(target as usize, source as usize, byte_count, is_pinned, true))
    })
}

#[no_mangle]
pub extern "C" fn cuMemcpyDtoDAsync_v2(target: u64, source: u64, byte_count: usize, stream: Handle) -> c_int {
    call_in_context("cuMemcpyDtoDAsync", |state| {
        state.enqueue(stream, Op::Copy(target as usize, source as usize, byte_count, true, true))
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuStreamCreateWithPriority(
    stream: *mut Handle,
    flags: c_uint,
    _priority: c_int,
) -> c_int {
    call_in_context("cuStreamCreate", |state| {
        if flags != 1 {
            return INVALID_VALUE;
        }
        let handle = state.handle();
        state.streams.insert(handle, None);
        unsafe { *stream = handle as Handle };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuStreamDestroy_v2(stream: Handle) -> c_int {
    call_in_context("cuStreamDestroy", |state| {
        if state.streams.remove(&(stream as usize)).is_some() {
            0
        } else {
            INVALID_HANDLE
        }
    })
}

#[no_mangle]
pub extern "C" fn cuStreamSynchronize(stream: Handle) -> c_int {
    call_in_context("cuStreamSynchronize", |state| {
        state.run_until_none(|(owner, _)| *owner == stream as usize);
        0
    })
}

#[no_mangle]
pub extern "C" fn cuStreamQuery(stream: Handle) -> c_int {
    call_in_context("cuStreamQuery", |state| {
        let is_idle = state.pending.iter().all(|(owner, _)| *owner != stream as usize);
        if is_idle {
            0
        } else {
            NOT_READY
        }
    })
}

#[no_mangle]
pub extern "C" fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: c_uint) -> c_int {
    call_in_context("cuStreamWaitEvent", |state| {
        let record = state.last_record(event);
        state.enqueue(stream, Op::Wait(record))
    })
}

#[no_mangle]
pub extern "C" fn cuStreamBeginCapture_v2(stream: Handle, mode: c_int) -> c_int {
    call_in_context("cuStreamBeginCapture", |state| match state.streams.get_mut(&(stream as usize)) {
        Some(capture @ None) if mode == 1 => {
            *capture = Some(Vec::new());
            0
        }
        _ => INVALID_HANDLE,
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) -> c_int {
    call_in_context("cuStreamEndCapture", |state| {
        let Some(ops) = state.streams.get_mut(&(stream as usize)).and_then(Option::take) else {
            return INVALID_HANDLE;
        };
        let handle = state.handle();
        state.graphs.insert(handle, ops);
        unsafe { *graph = handle as Handle };
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuEventCreate(event: *mut Handle, flags: c_uint) -> c_int {
    const BLOCKING_SYNC: c_uint = 1;
    let name = if flags & BLOCKING_SYNC == 0 { "cuEventCreate" } else { "cuEventCreate, to sleep for" };
    call_in_context(name, |state| {
        let handle = state.handle();
        state.events.insert(handle, None);
        unsafe { *event = handle as Handle };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuEventDestroy_v2(event: Handle) -> c_int {
    call_in_context("cuEventDestroy", |state| {
        if state.events.remove(&(event as usize)).is_some() {
            0
        } else {
            INVALID_HANDLE
        }
    })
}

#[no_mangle]
pub extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> c_int {
    call_in_context("cuEventRecord", |state| state.enqueue(stream, Op::Record(event as usize, 0)))
}

#[no_mangle]
pub extern "C" fn cuEventRecordWithFlags(event: Handle, stream: Handle, _flags: c_uint) -> c_int {
    call_in_context("cuEventRecordWithFlags", |state| state.enqueue(stream, Op::Record(event as usize, 0)))
}

#[no_mangle]
pub extern "C" fn cuEventQuery(event: Handle) -> c_int {
    call_in_context("cuEventQuery", |state| {
        if state.is_pending(event) {
            state.queries += 1;
            if state.queries <= state.delay {
                return NOT_READY;
            }
            state.queries = 0;
            state.run_until_none(records(event));
        }
        0
    })
}

#[no_mangle]
pub extern "C" fn cuEventSynchronize(event: Handle) -> c_int {
    call_in_context("cuEventSynchronize", |state| {
        state.run_until_none(records(event));
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) -> c_int {
    call_in_context("cuEventElapsedTime", |state| {
        let time = |event: Handle| state.events.get(&(event as usize)).copied().flatten();
        let (Some(start), Some(end)) = (time(start), time(end)) else { return INVALID_HANDLE };
        unsafe { *milliseconds = end - start };
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuGraphGetNodes(graph: Handle, _nodes: *mut Handle, count: *mut usize) -> c_int {
    call_in_context("cuGraphGetNodes", |state| {
        unsafe { *count = state.graphs[&(graph as usize)].len() };
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuGraphInstantiateWithFlags(
    executable: *mut Handle,
    graph: Handle,
    _flags: u64,
) -> c_int {
    call_in_context("cuGraphInstantiate", |state| {
        let ops = state.graphs[&(graph as usize)].clone();
        let handle = state.handle();
        state.executables.insert(handle, ops);
        unsafe { *executable = handle as Handle };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuGraphUpload(_executable: Handle, _stream: Handle) -> c_int {
    call_in_context("cuGraphUpload", |_| 0)
}

#[no_mangle]
pub extern "C" fn cuGraphLaunch(executable: Handle, stream: Handle) -> c_int {
    call_in_context("cuGraphLaunch", |state| {
        let Some(ops) = state.executables.get(&(executable as usize)).cloned() else { return INVALID_HANDLE };
        ops.into_iter().map(|op| state.enqueue(stream, op)).max().unwrap_or(0)
    })
}

#[no_mangle]
pub extern "C" fn cuGraphExecDestroy(executable: Handle) -> c_int {
    call_in_context("cuGraphExecDestroy", |state| {
        if state.executables.remove(&(executable as usize)).is_some() {
            0
        } else {
            INVALID_HANDLE
        }
    })
}

#[no_mangle]
pub extern "C" fn cuGraphDestroy(graph: Handle) -> c_int {
    call_in_context("cuGraphDestroy", |state| {
        if state.graphs.remove(&(graph as usize)).is_some() {
            0
        } else {
            INVALID_HANDLE
        }
    })
}
