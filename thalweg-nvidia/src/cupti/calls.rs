//! Which calls of CUDA are worth a record: those that give the device work, wait for it, or take long.
//!
//! A program asks CUDA for its device or its last error many times for each kernel that it launches; recording these
//! would cost it time and say nothing.

/// How the names of calls that are recorded begin, behind `cuda` or `cu`.
const RECORDED: [&str; 24] = [
    "Launch",
    "GraphLaunch",
    "GraphInstantiate",
    "GraphExecUpdate",
    "Memcpy",
    "Memset",
    "MemPrefetch",
    "StreamSynchronize",
    "StreamWaitEvent",
    "EventSynchronize",
    "DeviceSynchronize",
    "CtxSynchronize",
    "Malloc",
    "MemAlloc",
    "Free",
    "MemFree",
    "HostAlloc",
    "MemHostAlloc",
    "HostRegister",
    "MemHostRegister",
    "ModuleLoad",
    "LibraryLoad",
    "StreamCreate",
    "CtxCreate",
];

/// Whether a call is recorded, by its bare name.
pub(super) fn is_recorded(name: &str) -> bool {
    let behind = name.strip_prefix("cuda").or_else(|| name.strip_prefix("cu"));
    behind.is_some_and(|rest| RECORDED.iter().any(|start| rest.starts_with(start)))
}

/// A call's name without the versions that CUPTI puts behind it: `cudaLaunchKernel_v7000` is `cudaLaunchKernel`, and
/// `cuMemcpyHtoDAsync_v2` is `cuMemcpyHtoDAsync`. Where a program was compiled for a default stream of each thread, the
/// ending that says so stays.
pub(super) fn bare_name(name: &str) -> &str {
    match name.rsplit_once("_v") {
        Some((bare, version)) if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()) => {
            bare
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_work_or_waits_is_recorded_and_what_only_asks_is_not() {
        for name in [
            "cudaLaunchKernel",
            "cuLaunchKernelEx",
            "cudaGraphLaunch",
            "cudaMemcpyAsync",
            "cuEventSynchronize",
        ] {
            assert!(is_recorded(name), "{name}");
        }
        for name in
            ["cudaGetDevice", "cudaGetLastError", "cuCtxGetCurrent", "cudaStreamIsCapturing", "Launch"]
        {
            assert!(!is_recorded(name), "{name}");
        }
    }

    #[test]
    fn versions_are_no_part_of_a_name() {
        assert_eq!(bare_name("cudaLaunchKernel_v7000"), "cudaLaunchKernel");
        assert_eq!(bare_name("cuMemcpyHtoDAsync_v2"), "cuMemcpyHtoDAsync");
        assert_eq!(bare_name("cudaLaunchKernel_ptsz_v7000"), "cudaLaunchKernel_ptsz");
        assert_eq!(bare_name("cuStreamSynchronize"), "cuStreamSynchronize");
        assert_eq!(bare_name("cuGraph_value"), "cuGraph_value");
    }
}
