//! NVML over a stand-in of an older driver; see `stand_in/libnvml.rs`.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use super::*;
use crate::stand_in::Folder;

fn open(test: &str) -> Nvml {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    let folder = Folder::new(test);
    folder.build_once("libnvidia-ml.so.1", include_str!("../stand_in/libnvml.rs"), &BUILT);
    Nvml::open(&folder.places()).unwrap()
}

#[test]
fn a_state_has_values_in_their_units_and_reasons_for_those_that_are_missing() {
    let state = open("nvml-state").device_by_uuid("GPU-new").unwrap().state();
    assert_eq!((state.sm_clock_mhz, state.memory_clock_mhz), (Ok(1755), Ok(2619)));
    assert_eq!(state.sm_clock_max_mhz, Ok(1980));
    assert_eq!((state.power_watts, state.power_limit_watts), (Ok(112.5), Ok(700.0)));
    let device = open("nvml-energy").device_by_uuid("GPU-new").unwrap();
    let before = device.energy_joules().unwrap();
    assert_eq!(device.energy_joules().unwrap() - before, 0.5);
    assert_eq!((state.memory_used_bytes, state.memory_total_bytes), (Ok(1), Ok(80)));
    assert_eq!((state.pcie_generation, state.gpu_utilisation), (Ok(5), Ok(0.37)));
    let reason = state.temperature_c.unwrap_err().to_string();
    assert_eq!(reason, "nvmlDeviceGetTemperature failed with status 3 (Not Supported)");
    let reason = state.pcie_width.unwrap_err();
    assert!(matches!(reason, Error::MissingSymbol { symbol: "nvmlDeviceGetCurrPcieLinkWidth", .. }));
}

#[test]
fn reasons_for_low_clocks_are_read_under_their_old_name_too() {
    let state = open("nvml-reasons").device_by_uuid("GPU-old").unwrap().state();
    let expected = [ThrottleReason::PowerCap, ThrottleReason::HardwareThermal, ThrottleReason::Unknown];
    assert_eq!(state.throttle_reasons.unwrap(), expected);
    let clock = open("nvml-clock").device_by_uuid("GPU-old").unwrap().clock_state();
    assert_eq!(
        (clock.throttle_reasons.unwrap(), clock.sm_clock_mhz),
        (expected.to_vec(), state.sm_clock_mhz)
    );
    assert!(ThrottleReason::PowerCap.is_throttling() && !ThrottleReason::Idle.is_throttling());
}

#[test]
fn a_device_that_nvml_does_not_know_is_an_error() {
    let nvml = open("nvml-unknown");
    let error = nvml.device_by_uuid("GPU-none").unwrap_err();
    assert_eq!(error.to_string(), "nvmlDeviceGetHandleByUUID failed with status 6 (Not Found)");
    assert!(matches!(nvml.device_by_uuid("GPU\0"), Err(Error::NoSuchDevice { .. })));
}

#[test]
fn a_mig_slice_is_found_by_the_uuid_that_cuda_gives() {
    let device = open("nvml-mig").device_by_uuid("GPU-slice").unwrap();
    assert_eq!(device.uuid(), "MIG-slice");
}

#[test]
fn devices_are_listed_with_their_names() {
    let devices = open("nvml-list").devices().unwrap();
    let uuids: Vec<_> = devices.iter().map(NvmlDevice::uuid).collect();
    assert_eq!(uuids, ["GPU-old", "GPU-new"]);
    assert_eq!(devices[0].name().unwrap(), "Stand-in GPU");
}

#[test]
fn processes_are_listed_however_many_there_are() {
    let nvml = open("nvml-processes");
    let processes = nvml.device_by_uuid("GPU-new").unwrap().compute_processes().unwrap();
    assert_eq!(processes.len(), 40);
    assert_eq!(processes[0], ProcessOnDevice { process: 1000, memory_bytes: None });
    assert_eq!(processes[39], ProcessOnDevice { process: 1039, memory_bytes: Some(39_000_000) });
    assert_eq!(nvml.device_by_uuid("GPU-old").unwrap().compute_processes(), Ok(Vec::new()));
}

#[test]
fn the_utilisation_of_a_process_is_the_mean_of_its_later_samples() {
    let nvml = open("nvml-utilisation");
    let device = nvml.device_by_uuid("GPU-new").unwrap();
    assert_eq!(device.process_utilisation(1001, 0), Ok(Some(0.4)));
    assert_eq!(device.process_utilisation(1001, 10), Ok(Some(0.5)));
    assert_eq!(device.process_utilisation(1001, 20), Ok(None));
    assert_eq!(nvml.device_by_uuid("GPU-old").unwrap().process_utilisation(1001, 0), Ok(None));
}

#[test]
fn gpm_gives_fractions_and_bytes_between_two_readings() {
    let device = open("nvml-gpm").device_by_uuid("GPU-new").unwrap();
    let mut sampler = GpmSampler::start(&device).unwrap();
    for _ in 0..3 {
        let metrics = sampler.read().unwrap();
        assert_eq!(metrics.graphics_utilisation, Ok(0.01), "one sample after the other");
        assert_eq!((metrics.sm_utilisation, metrics.tensor_utilisation), (Ok(0.02), Ok(0.05)));
        assert_eq!(metrics.pcie_rx_bytes_per_s, Ok(21.0 * 1_048_576.0));
        assert_eq!(metrics.pcie_tx_bytes_per_s, Ok(20.0 * 1_048_576.0));
        assert_eq!(metrics.dram_utilisation, Err(Error::NoReading { what: "DRAM utilisation" }));
        assert!(matches!(metrics.sm_occupancy, Err(Error::Status { code: 3, .. })));
    }
}

#[test]
fn counters_are_read_from_one_renewal_on_and_not_before_the_next() {
    let nvml = open("nvml-gpm-renewed");
    // SAFETY: the type is that of `libnvml.rs`.
    let set_period: unsafe extern "C" fn(i32) =
        unsafe { nvml.session.api.library().function("stand_in_set_gpm_period") }.unwrap();
    // SAFETY: any number of samples may be set.
    unsafe { set_period(3) };
    let device = nvml.device_by_uuid("GPU-new").unwrap();
    let too_short = Err(Error::NoReading { what: "GPM counters of so short a time" });
    let dram = |metrics: Result<GpmMetrics>| metrics.map(|metrics| metrics.dram_utilisation);
    let mut renewed = RenewedGpm::start(&device).unwrap();
    // The third sample is the first after a renewal, and nobody takes another one then.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(dram(renewed.read()), too_short);
    assert_eq!(dram(renewed.read()), too_short);
    assert_eq!(dram(renewed.read()), Ok(Ok(0.1)), "the sixth");
    // Who asks at once gets none, though the device was renewed between both samples: there was no first renewal. The
    // seventh sample is the last one before that.
    // SAFETY: as above.
    unsafe { set_period(8) };
    let mut hasty = RenewedGpm::start(&device).unwrap();
    assert_eq!(dram(hasty.read()), too_short);
}

#[test]
fn samples_of_several_threads_are_taken_in_turns() {
    let nvml = open("nvml-gpm-threads");
    // SAFETY: the type is that of `libnvml.rs`.
    let overlaps: unsafe extern "C" fn() -> i32 =
        unsafe { nvml.session.api.library().function("stand_in_gpm_overlaps") }.unwrap();
    let device = nvml.device_by_uuid("GPU-new").unwrap();
    let samplers = [0; 2].map(|_| GpmSampler::start(&device).unwrap());
    thread::scope(|scope| {
        for mut sampler in samplers {
            scope.spawn(move || (0..50).for_each(|_| drop(sampler.read().unwrap())));
        }
    });
    // SAFETY: it only counts.
    assert_eq!(unsafe { overlaps() }, 0);
}

#[test]
fn a_device_without_gpm_says_which_devices_have_it() {
    let device = open("nvml-no-gpm").device_by_uuid("GPU-old").unwrap();
    let error = GpmSampler::start(&device).err().unwrap().to_string();
    assert!(error.contains("GPU-old") && error.contains("Hopper"), "{error}");
}

#[test]
fn devices_and_samplers_keep_nvml_open_and_the_last_one_closes_it() {
    let nvml = open("nvml-session");
    // SAFETY: the type is that of `libnvml.rs`.
    let count: unsafe extern "C" fn(*mut [i32; 2]) =
        unsafe { nvml.session.api.library().function("stand_in_live") }.unwrap();
    let live = || {
        let mut counts = [0; 2];
        // SAFETY: `counts` is writable, and the library is never unloaded.
        unsafe { count(&raw mut counts) };
        counts
    };
    let sampler = GpmSampler::start(&nvml.device_by_uuid("GPU-new").unwrap()).unwrap();
    drop(nvml);
    assert_eq!(live(), [1, 2]);
    drop(sampler);
    assert_eq!(live(), [0, 0]);
}

#[test]
fn a_machine_without_nvml_gets_a_remedy() {
    let folder = Folder::new("nvml-none");
    let error = Nvml::open(&folder.places()).unwrap_err().to_string();
    assert!(
        error.contains("libnvidia-ml.so.1") && error.contains("it comes with the NVIDIA driver"),
        "{error}"
    );
}
