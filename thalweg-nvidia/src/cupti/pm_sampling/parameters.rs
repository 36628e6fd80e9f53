//! The structures that CUPTI's profiler functions take, and the numbers that go with them.
//!
//! Each begins with its size, by which CUPTI tells what its caller knows: NVIDIA only appends fields, so these have the
//! fields of CUPTI 12.6, and later versions take them. Names are those of the headers without `CUpti_` and `_Params`, in
//! the order of the headers; `scripts/cupti-parameters.py` checks them against headers.

use std::ffi::{c_char, c_int, c_void};
use std::mem;
use std::ptr;

/// `CUPTI_PROFILER_TYPE_PM_SAMPLING`.
pub(crate) const PROFILER_TYPE_PM_SAMPLING: c_int = 1;
/// `CUPTI_PM_SAMPLING_TRIGGER_MODE_GPU_SYSCLK_INTERVAL`: the interval counts cycles.
pub(crate) const TRIGGER_SYSCLK: c_int = 0;
/// `CUPTI_PM_SAMPLING_TRIGGER_MODE_GPU_TIME_INTERVAL`: the interval counts nanoseconds.
pub(crate) const TRIGGER_TIME: c_int = 1;
/// `CUPTI_PM_SAMPLING_DECODE_STOP_REASON_END_OF_RECORDS`: there is no more in the hardware's buffer.
pub(crate) const DECODE_STOPPED_AT_END: c_int = 2;

/// A structure of the header, and its size up to the end of its last field, which is how NVIDIA counts it.
macro_rules! parameters {
    ($($name:ident { $($field:ident: $type:ty,)+ })+) => { $(
        #[repr(C)]
        pub(crate) struct $name {
            pub(crate) struct_size: usize,
            /// For CUPTI alone, and null.
            pub(crate) private: *mut c_void,
            $(pub(crate) $field: $type,)+
        }

        impl $name {
            /// Bytes up to the end of its last field.
            pub(crate) const SIZE: usize = {
                let ends = [$(mem::offset_of!(Self, $field) + mem::size_of::<$type>()),+];
                ends[ends.len() - 1]
            };

            /// The size, and else nothing but zeros.
            pub(crate) fn new() -> Self {
                // SAFETY: integers and raw pointers may be zero, and there is nothing else.
                let zeros: Self = unsafe { mem::zeroed() };
                Self { struct_size: Self::SIZE, private: ptr::null_mut(), ..zeros }
            }
        }
    )+ };
}

parameters! {
    DeviceGetChipName { device_index: usize, chip_name: *const c_char, }
    ProfilerHostInitialize {
        profiler_type: c_int,
        chip_name: *const c_char,
        counter_availability_image: *const u8,
        host_object: *mut c_void,
    }
    ProfilerHostDeinitialize { host_object: *mut c_void, }
    ProfilerHostConfigAddMetrics {
        host_object: *mut c_void,
        metric_names: *const *const c_char,
        num_metrics: usize,
    }
    ProfilerHostGetConfigImageSize { host_object: *mut c_void, config_image_size: usize, }
    ProfilerHostGetConfigImage {
        host_object: *mut c_void,
        config_image_size: usize,
        config_image: *mut u8,
    }
    ProfilerHostGetNumOfPasses { config_image_size: usize, config_image: *const u8, num_of_passes: usize, }
    ProfilerHostEvaluateToGpuValues {
        host_object: *mut c_void,
        counter_data_image: *const u8,
        counter_data_image_size: usize,
        range_index: usize,
        metric_names: *const *const c_char,
        num_metrics: usize,
        metric_values: *mut f64,
    }
    PmSamplingSetConfig {
        pm_sampling_object: *mut c_void,
        config_size: usize,
        config: *const u8,
        hardware_buffer_size: usize,
        sampling_interval: u64,
        trigger_mode: c_int,
    }
    PmSamplingEnable { device_index: usize, pm_sampling_object: *mut c_void, }
    PmSamplingDisable { pm_sampling_object: *mut c_void, }
    PmSamplingStart { pm_sampling_object: *mut c_void, }
    PmSamplingStop { pm_sampling_object: *mut c_void, }
    PmSamplingDecodeData {
        pm_sampling_object: *mut c_void,
        counter_data_image: *mut u8,
        counter_data_image_size: usize,
        decode_stop_reason: c_int,
        overflow: u8,
    }
    PmSamplingGetCounterAvailability {
        device_index: usize,
        counter_availability_image_size: usize,
        counter_availability_image: *mut u8,
    }
    PmSamplingGetCounterDataSize {
        pm_sampling_object: *mut c_void,
        metric_names: *const *const c_char,
        num_metrics: usize,
        max_samples: u32,
        counter_data_size: usize,
    }
    PmSamplingCounterDataImageInitialize {
        pm_sampling_object: *mut c_void,
        counter_data_size: usize,
        counter_data: *mut u8,
    }
    PmSamplingGetCounterDataInfo {
        counter_data_image: *const u8,
        counter_data_image_size: usize,
        num_total_samples: usize,
        num_populated_samples: usize,
        num_completed_samples: usize,
    }
}

/// `CUpti_Profiler_Initialize_Params`, and `CUpti_Profiler_DeInitialize_Params` alike.
#[repr(C)]
pub(crate) struct NoParameters {
    struct_size: usize,
    private: *mut c_void,
}

impl NoParameters {
    pub(crate) fn new() -> Self {
        Self { struct_size: mem::size_of::<Self>(), private: ptr::null_mut() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What gcc 13 says of the headers of CUPTI 12.6.
    #[test]
    fn sizes_are_those_of_nvidias_headers() {
        let sizes = [
            (mem::size_of::<NoParameters>(), 16),
            (DeviceGetChipName::SIZE, 32),
            (ProfilerHostInitialize::SIZE, 48),
            (ProfilerHostDeinitialize::SIZE, 24),
            (ProfilerHostConfigAddMetrics::SIZE, 40),
            (ProfilerHostGetConfigImageSize::SIZE, 32),
            (ProfilerHostGetConfigImage::SIZE, 40),
            (ProfilerHostGetNumOfPasses::SIZE, 40),
            (ProfilerHostEvaluateToGpuValues::SIZE, 72),
            (PmSamplingSetConfig::SIZE, 60),
            (PmSamplingEnable::SIZE, 32),
            (PmSamplingDisable::SIZE, 24),
            (PmSamplingStart::SIZE, 24),
            (PmSamplingStop::SIZE, 24),
            (PmSamplingDecodeData::SIZE, 45),
            (PmSamplingGetCounterAvailability::SIZE, 40),
            (PmSamplingGetCounterDataSize::SIZE, 56),
            (PmSamplingCounterDataImageInitialize::SIZE, 40),
            (PmSamplingGetCounterDataInfo::SIZE, 56),
        ];
        for (index, (ours, theirs)) in sizes.into_iter().enumerate() {
            assert_eq!(ours, theirs, "the structure {index} of this list");
        }
        assert_eq!(mem::offset_of!(PmSamplingDecodeData, overflow), 44);
        assert_eq!(mem::offset_of!(PmSamplingGetCounterDataSize, counter_data_size), 48);
    }
}
