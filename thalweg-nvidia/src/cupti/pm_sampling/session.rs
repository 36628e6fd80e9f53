//! CUPTI's profiler between its initialisation and its end: each of its objects with an owner that gives it back.

use std::ffi::{CStr, CString, c_char, c_void};

use super::parameters::{
    DECODE_STOPPED_AT_END, DeviceGetChipName, NoParameters, PROFILER_TYPE_PM_SAMPLING,
    PmSamplingCounterDataImageInitialize, PmSamplingDecodeData, PmSamplingDisable, PmSamplingEnable,
    PmSamplingGetCounterAvailability, PmSamplingGetCounterDataInfo, PmSamplingGetCounterDataSize,
    PmSamplingSetConfig, PmSamplingStart, PmSamplingStop, ProfilerHostConfigAddMetrics,
    ProfilerHostDeinitialize, ProfilerHostEvaluateToGpuValues, ProfilerHostGetConfigImage,
    ProfilerHostGetConfigImageSize, ProfilerHostGetNumOfPasses, ProfilerHostInitialize, TRIGGER_SYSCLK,
    TRIGGER_TIME,
};
use crate::cupti::api::CuptiApi;
use crate::error::{Error, Result};

/// `CUPTI_ERROR_INVALID_METRIC_NAME`: the chip has no such metric.
const INVALID_METRIC_NAME: i32 = 17;

/// Bytes that the GPU writes samples to until they are decoded. A sample of a large GPU takes some 20 kB, so this holds
/// several seconds at [`INTERVAL_NS`], and [`PERIOD`](super::PERIOD) is a fraction of one.
const HARDWARE_BUFFER_BYTES: usize = 128 << 20;

/// Nanoseconds between two samples. Only means are wanted, so often enough is as often as keeps a single one from
/// mattering.
const INTERVAL_NS: u64 = 1_000_000;

/// The same where the hardware counts cycles of its system clock, which is between 1 and 2 GHz.
const INTERVAL_CYCLES: u64 = 1_500_000;

/// Samples that are decoded at a time.
const SAMPLES_AT_A_TIME: u32 = 512;

/// The profiler of this process.
pub(super) struct Profiler<'a> {
    api: &'a CuptiApi,
}

impl<'a> Profiler<'a> {
    #[doc(alias = "cuptiProfilerInitialize")]
    pub(super) fn start(api: &'a CuptiApi) -> Result<Self> {
        let mut nothing = NoParameters::new();
        // SAFETY: the structure says its size.
        unsafe { api.profiler_initialize(&raw mut nothing) }?;
        Ok(Self { api })
    }

    /// What NVIDIA calls the chip of a device, such as `GH100`.
    #[doc(alias = "cuptiDeviceGetChipName")]
    pub(super) fn chip(&self, device_index: usize) -> Result<CString> {
        let mut asked = DeviceGetChipName { device_index, ..DeviceGetChipName::new() };
        // SAFETY: the structure says its size, and is writable.
        unsafe { self.api.chip_name(&raw mut asked) }?;
        if asked.chip_name.is_null() {
            return Ok(CString::default());
        }
        // SAFETY: CUPTI has set it to a text of its own, which ends in a zero.
        Ok(unsafe { CStr::from_ptr(asked.chip_name) }.to_owned())
    }

    /// Which counters the device lets us read, in CUPTI's own form.
    #[doc(alias = "cuptiPmSamplingGetCounterAvailability")]
    pub(super) fn counter_availability(&self, device_index: usize) -> Result<Vec<u8>> {
        let mut asked =
            PmSamplingGetCounterAvailability { device_index, ..PmSamplingGetCounterAvailability::new() };
        // SAFETY: the structure says its size, is writable, and asks for the size of the image.
        unsafe { self.api.counter_availability(&raw mut asked) }?;
        let mut image = vec![0; asked.counter_availability_image_size];
        asked.counter_availability_image = image.as_mut_ptr();
        // SAFETY: as above, and the image has that size.
        unsafe { self.api.counter_availability(&raw mut asked) }?;
        Ok(image)
    }

    /// Prepares some metrics of a chip; `None` where it lacks one of them or cannot count all at a time.
    pub(super) fn prepare<'b>(
        &'b self,
        chip: &'b CStr,
        availability: &'b [u8],
        metrics: &[&'static CStr],
    ) -> Result<Option<Prepared<'b>>> {
        let host = Host::new(self.api, chip, availability)?;
        match host.config_image(metrics) {
            Ok((image, 1)) => Ok(Some(Prepared { host, metrics: metrics.to_vec(), image })),
            // Several passes would mean to run the same work again.
            Ok(_) | Err(Error::Status { code: INVALID_METRIC_NAME, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

impl Drop for Profiler<'_> {
    #[doc(alias = "cuptiProfilerDeInitialize")]
    fn drop(&mut self) {
        let mut nothing = NoParameters::new();
        // SAFETY: it was initialised, and all its objects held it.
        let _ = unsafe { self.api.profiler_deinitialize(&raw mut nothing) };
    }
}

/// What knows the metrics of a chip. It talks to no device.
struct Host<'a> {
    api: &'a CuptiApi,
    object: *mut c_void,
}

impl<'a> Host<'a> {
    /// The image of its counters is for chips that are younger than CUPTI.
    #[doc(alias = "cuptiProfilerHostInitialize")]
    fn new(api: &'a CuptiApi, chip: &'a CStr, availability: &'a [u8]) -> Result<Self> {
        let mut asked = ProfilerHostInitialize {
            profiler_type: PROFILER_TYPE_PM_SAMPLING,
            chip_name: chip.as_ptr(),
            counter_availability_image: availability.as_ptr(),
            ..ProfilerHostInitialize::new()
        };
        // SAFETY: the structure says its size and is writable; text and image live as long as the object.
        unsafe { api.host_initialize(&raw mut asked) }?;
        Ok(Self { api, object: asked.host_object })
    }

    /// How the hardware counts these, in CUPTI's own form, and in how many passes.
    #[doc(alias = "cuptiProfilerHostConfigAddMetrics")]
    #[doc(alias = "cuptiProfilerHostGetConfigImage")]
    #[doc(alias = "cuptiProfilerHostGetNumOfPasses")]
    fn config_image(&self, metrics: &[&'static CStr]) -> Result<(Vec<u8>, usize)> {
        let names = pointers(metrics);
        let mut added = ProfilerHostConfigAddMetrics {
            host_object: self.object,
            metric_names: names.as_ptr(),
            num_metrics: names.len(),
            ..ProfilerHostConfigAddMetrics::new()
        };
        // SAFETY: the object is CUPTI's; so many names are there, each of which ends in a zero.
        unsafe { self.api.host_add_metrics(&raw mut added) }?;
        let mut size = ProfilerHostGetConfigImageSize {
            host_object: self.object,
            ..ProfilerHostGetConfigImageSize::new()
        };
        // SAFETY: the object is CUPTI's, and the structure is writable.
        unsafe { self.api.host_config_image_size(&raw mut size) }?;
        let mut image = vec![0; size.config_image_size];
        let mut filled = ProfilerHostGetConfigImage {
            host_object: self.object,
            config_image_size: image.len(),
            config_image: image.as_mut_ptr(),
            ..ProfilerHostGetConfigImage::new()
        };
        // SAFETY: as above, and the image has so many bytes.
        unsafe { self.api.host_config_image(&raw mut filled) }?;
        let mut passes = ProfilerHostGetNumOfPasses {
            config_image_size: image.len(),
            config_image: image.as_ptr(),
            ..ProfilerHostGetNumOfPasses::new()
        };
        // SAFETY: CUPTI has written the image, and the structure is writable.
        unsafe { self.api.host_pass_count(&raw mut passes) }?;
        Ok((image, passes.num_of_passes))
    }
}

impl Drop for Host<'_> {
    #[doc(alias = "cuptiProfilerHostDeinitialize")]
    fn drop(&mut self) {
        let mut asked =
            ProfilerHostDeinitialize { host_object: self.object, ..ProfilerHostDeinitialize::new() };
        // SAFETY: the object is CUPTI's, and nobody else has it.
        let _ = unsafe { self.api.host_deinitialize(&raw mut asked) };
    }
}

/// Metrics that the hardware can count at a time.
pub(super) struct Prepared<'a> {
    host: Host<'a>,
    metrics: Vec<&'static CStr>,
    /// CUPTI reads it as long as it samples.
    image: Vec<u8>,
}

/// A device that is sampled.
pub(super) struct Sampling<'a> {
    prepared: &'a Prepared<'a>,
    object: *mut c_void,
    /// What samples are decoded to, in CUPTI's own form.
    counter_data: Vec<u8>,
}

impl<'a> Sampling<'a> {
    /// Starts to sample. Turing and GA100 have no trigger that goes by time, as cupti_pmsampling.h says.
    #[doc(alias = "cuptiPmSamplingEnable")]
    #[doc(alias = "cuptiPmSamplingSetConfig")]
    #[doc(alias = "cuptiPmSamplingStart")]
    pub(super) fn start(prepared: &'a Prepared<'a>, device_index: usize, chip: &CStr) -> Result<Self> {
        let api = prepared.host.api;
        let mut enabled = PmSamplingEnable { device_index, ..PmSamplingEnable::new() };
        // SAFETY: the structure says its size, and is writable.
        unsafe { api.pm_enable(&raw mut enabled) }?;
        let object = enabled.pm_sampling_object;
        let mut sampling = Self { prepared, object, counter_data: Vec::new() };
        let counts_cycles = chip == c"GA100" || chip.to_bytes().starts_with(b"TU");
        let (trigger_mode, sampling_interval) =
            if counts_cycles { (TRIGGER_SYSCLK, INTERVAL_CYCLES) } else { (TRIGGER_TIME, INTERVAL_NS) };
        let mut set = PmSamplingSetConfig {
            pm_sampling_object: object,
            config_size: prepared.image.len(),
            config: prepared.image.as_ptr(),
            hardware_buffer_size: HARDWARE_BUFFER_BYTES,
            sampling_interval,
            trigger_mode,
            ..PmSamplingSetConfig::new()
        };
        // SAFETY: the object is CUPTI's; so is the image, which has so many bytes.
        unsafe { api.pm_set_config(&raw mut set) }?;
        let names = pointers(&prepared.metrics);
        let mut size = PmSamplingGetCounterDataSize {
            pm_sampling_object: object,
            metric_names: names.as_ptr(),
            num_metrics: names.len(),
            max_samples: SAMPLES_AT_A_TIME,
            ..PmSamplingGetCounterDataSize::new()
        };
        // SAFETY: the object is CUPTI's; so many names are there, each of which ends in a zero.
        unsafe { api.pm_counter_data_size(&raw mut size) }?;
        sampling.counter_data = vec![0; size.counter_data_size];
        sampling.empty()?;
        let mut started = PmSamplingStart { pm_sampling_object: object, ..PmSamplingStart::new() };
        // SAFETY: the object is CUPTI's, and configured.
        unsafe { api.pm_start(&raw mut started) }?;
        Ok(sampling)
    }

    fn api(&self) -> &'a CuptiApi {
        self.prepared.host.api
    }

    /// Makes room for samples.
    #[doc(alias = "cuptiPmSamplingCounterDataImageInitialize")]
    fn empty(&mut self) -> Result<()> {
        let mut asked = PmSamplingCounterDataImageInitialize {
            pm_sampling_object: self.object,
            counter_data_size: self.counter_data.len(),
            counter_data: self.counter_data.as_mut_ptr(),
            ..PmSamplingCounterDataImageInitialize::new()
        };
        // SAFETY: the object is CUPTI's, and the image has so many bytes.
        unsafe { self.api().pm_initialize_counter_data(&raw mut asked) }
    }

    /// Takes no more samples; those that were taken can still be read.
    #[doc(alias = "cuptiPmSamplingStop")]
    pub(super) fn stop(&self) -> Result<()> {
        let mut asked = PmSamplingStop { pm_sampling_object: self.object, ..PmSamplingStop::new() };
        // SAFETY: the object is CUPTI's, and started.
        unsafe { self.api().pm_stop(&raw mut asked) }
    }

    /// Gives each sample since the last time, as values in the order of the metrics.
    ///
    /// # Errors
    /// [`Error::SamplesLost`] where there were more than fit, and what CUPTI says.
    #[doc(alias = "cuptiPmSamplingDecodeData")]
    #[doc(alias = "cuptiPmSamplingGetCounterDataInfo")]
    pub(super) fn drain(&mut self, mut take: impl FnMut(&[f64])) -> Result<()> {
        let mut values = vec![0.0; self.prepared.metrics.len()];
        loop {
            let mut decoded = PmSamplingDecodeData {
                pm_sampling_object: self.object,
                counter_data_image: self.counter_data.as_mut_ptr(),
                counter_data_image_size: self.counter_data.len(),
                ..PmSamplingDecodeData::new()
            };
            // SAFETY: the object is CUPTI's; the image has so many bytes and was initialised.
            unsafe { self.api().pm_decode(&raw mut decoded) }?;
            if decoded.overflow != 0 {
                return Err(Error::SamplesLost);
            }
            let mut info = PmSamplingGetCounterDataInfo {
                counter_data_image: self.counter_data.as_ptr(),
                counter_data_image_size: self.counter_data.len(),
                ..PmSamplingGetCounterDataInfo::new()
            };
            // SAFETY: as above, and the structure is writable.
            unsafe { self.api().pm_counter_data_info(&raw mut info) }?;
            for sample in 0..info.num_completed_samples {
                self.evaluate(sample, &mut values)?;
                take(&values);
            }
            self.empty()?;
            // For other reasons than the end, which CUPTI does not explain, there may be more.
            if decoded.decode_stop_reason == DECODE_STOPPED_AT_END || info.num_completed_samples == 0 {
                return Ok(());
            }
        }
    }

    #[doc(alias = "cuptiProfilerHostEvaluateToGpuValues")]
    fn evaluate(&self, sample: usize, values: &mut [f64]) -> Result<()> {
        let names = pointers(&self.prepared.metrics);
        let mut asked = ProfilerHostEvaluateToGpuValues {
            host_object: self.prepared.host.object,
            counter_data_image: self.counter_data.as_ptr(),
            counter_data_image_size: self.counter_data.len(),
            range_index: sample,
            metric_names: names.as_ptr(),
            num_metrics: names.len(),
            metric_values: values.as_mut_ptr(),
            ..ProfilerHostEvaluateToGpuValues::new()
        };
        // SAFETY: the object is CUPTI's, the image has this sample, and there is a value for each of the names.
        unsafe { self.api().host_evaluate(&raw mut asked) }
    }
}

impl Drop for Sampling<'_> {
    #[doc(alias = "cuptiPmSamplingDisable")]
    fn drop(&mut self) {
        let mut asked = PmSamplingDisable { pm_sampling_object: self.object, ..PmSamplingDisable::new() };
        // SAFETY: the object is CUPTI's, and nobody else has it.
        let _ = unsafe { self.api().pm_disable(&raw mut asked) };
    }
}

fn pointers(names: &[&'static CStr]) -> Vec<*const c_char> {
    names.iter().map(|name| name.as_ptr()).collect()
}
