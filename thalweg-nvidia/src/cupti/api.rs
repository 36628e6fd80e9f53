//! The functions of CUPTI that this crate calls, and the numbers that go with them.
//!
//! NVIDIA's reference: <https://docs.nvidia.com/cupti/api/group__CUPTI__ACTIVITY__API.html>.

use std::ffi::{c_char, c_int, c_void};

use crate::cupti::pm_sampling::parameters as pm;
use crate::table::function_table;

/// `CUpti_BuffersCallbackRequestFunc`: where to write a buffer's address, its size and the most records in it.
pub(super) type BufferRequested = extern "C" fn(*mut *mut u8, *mut usize, *mut usize);
/// `CUpti_BuffersCallbackCompleteFunc`: context, stream, the buffer, its size and how much of it holds records.
pub(super) type BufferCompleted = extern "C" fn(*mut c_void, u32, *mut u8, usize, usize);

/// `CUpti_CallbackFunc`: our pointer, domain, call, and what the call was given.
pub(super) type Callback = extern "C" fn(*mut c_void, u32, u32, *const c_void);

/// Values of `CUpti_ActivityKind`.
pub(super) mod kind {
    pub(crate) const MEMCPY: u32 = 1;
    pub(crate) const MEMSET: u32 = 2;
    pub(crate) const KERNEL: u32 = 3;
    pub(crate) const DRIVER: u32 = 4;
    pub(crate) const RUNTIME: u32 = 5;
    pub(crate) const CONCURRENT_KERNEL: u32 = 10;
    pub(crate) const STREAM: u32 = 37;
    pub(crate) const GRAPH_TRACE: u32 = 51;
}

/// `CUPTI_CB_DOMAIN_DRIVER_API` and `CUPTI_CB_DOMAIN_RUNTIME_API`.
pub(super) const DOMAIN_DRIVER: u32 = 1;
pub(super) const DOMAIN_RUNTIME: u32 = 2;
/// `CUPTI_ACTIVITY_THREAD_ID_TYPE_SYSTEM`: threads are told by the number that the operating system gives them.
pub(super) const THREAD_ID_OF_SYSTEM: c_int = 1;
/// `CUPTI_ACTIVITY_FLAG_FLUSH_FORCED`: buffers with records that are not complete are delivered too.
pub(super) const FLUSH_FORCED: u32 = 1;

/// `CUPTI_ERROR_MAX_LIMIT_REACHED`, as CUPTI has it for a second subscriber in its oldest versions, and
/// `CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED`.
pub(super) const SECOND_SUBSCRIBER: [c_int; 2] = [12, 39];

function_table! {
    /// Functions of `libcupti.so` with the parameters of `cupti_activity.h`, `cupti_callbacks.h`, `cupti_target.h`,
    /// `cupti_profiler_target.h`, `cupti_profiler_host.h` and `cupti_pmsampling.h` (CUPTI 13.0).
    CuptiApi
    checked {
        "cuptiSubscribe" subscribe(subscriber: *mut *mut c_void, callback: Callback, data: *mut c_void);
        "cuptiUnsubscribe" unsubscribe(subscriber: *mut c_void);
        "cuptiActivityRegisterCallbacks" register_callbacks(requested: BufferRequested, completed: BufferCompleted);
        "cuptiActivityEnable" enable(kind: u32);
        "cuptiActivityDisable" disable(kind: u32);
        "cuptiActivityEnableDriverApi" enable_driver_call(id: u32, is_enabled: u8);
        "cuptiActivityEnableRuntimeApi" enable_runtime_call(id: u32, is_enabled: u8);
        "cuptiActivityFlushAll" flush_all(flag: u32);
        "cuptiActivityGetNumDroppedRecords" dropped(context: *mut c_void, stream: u32, count: *mut usize);
        "cuptiSetThreadIdType" set_thread_id_type(kind: c_int);
        "cuptiGetTimestamp" timestamp(nanoseconds: *mut u64);
        "cuptiDeviceGetChipName" chip_name(asked: *mut pm::DeviceGetChipName);
        "cuptiProfilerInitialize" profiler_initialize(asked: *mut pm::NoParameters);
        "cuptiProfilerDeInitialize" profiler_deinitialize(asked: *mut pm::NoParameters);
        "cuptiProfilerHostInitialize" host_initialize(asked: *mut pm::ProfilerHostInitialize);
        "cuptiProfilerHostDeinitialize" host_deinitialize(asked: *mut pm::ProfilerHostDeinitialize);
        "cuptiProfilerHostConfigAddMetrics" host_add_metrics(asked: *mut pm::ProfilerHostConfigAddMetrics);
        "cuptiProfilerHostGetConfigImageSize" host_config_image_size(asked: *mut pm::ProfilerHostGetConfigImageSize);
        "cuptiProfilerHostGetConfigImage" host_config_image(asked: *mut pm::ProfilerHostGetConfigImage);
        "cuptiProfilerHostGetNumOfPasses" host_pass_count(asked: *mut pm::ProfilerHostGetNumOfPasses);
        "cuptiProfilerHostEvaluateToGpuValues" host_evaluate(asked: *mut pm::ProfilerHostEvaluateToGpuValues);
        "cuptiPmSamplingGetCounterAvailability" counter_availability(
            asked: *mut pm::PmSamplingGetCounterAvailability
        );
        "cuptiPmSamplingEnable" pm_enable(asked: *mut pm::PmSamplingEnable);
        "cuptiPmSamplingDisable" pm_disable(asked: *mut pm::PmSamplingDisable);
        "cuptiPmSamplingSetConfig" pm_set_config(asked: *mut pm::PmSamplingSetConfig);
        "cuptiPmSamplingStart" pm_start(asked: *mut pm::PmSamplingStart);
        "cuptiPmSamplingStop" pm_stop(asked: *mut pm::PmSamplingStop);
        "cuptiPmSamplingDecodeData" pm_decode(asked: *mut pm::PmSamplingDecodeData);
        "cuptiPmSamplingGetCounterDataSize" pm_counter_data_size(asked: *mut pm::PmSamplingGetCounterDataSize);
        "cuptiPmSamplingCounterDataImageInitialize" pm_initialize_counter_data(
            asked: *mut pm::PmSamplingCounterDataImageInitialize
        );
        "cuptiPmSamplingGetCounterDataInfo" pm_counter_data_info(asked: *mut pm::PmSamplingGetCounterDataInfo);
    }
    polled {
        "cuptiActivityGetNextRecord" next_record(buffer: *mut u8, valid_size: usize, record: *mut *mut u8);
        "cuptiGetCallbackName" callback_name(domain: u32, id: u32, name: *mut *const c_char);
    }
}
