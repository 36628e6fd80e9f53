//! The GPUs and the TensorRT of this machine, as plain data.

use thalweg_nvidia::cuda::{DeviceProperties, Driver};
use thalweg_nvidia::nvml::{DeviceState, Nvml};
use thalweg_nvidia::tensorrt::{Flavour, TensorRt};
use thalweg_nvidia::{Error, Places};

use crate::backend::examination::{GpuFinding, GpuState, TensorRtFinding};

/// Every GPU that CUDA sees with what NVML says of it, or why there is none.
pub(in crate::backend) fn gpus(places: &Places) -> Result<Vec<GpuFinding>, Error> {
    let devices = Driver::open(places)?.devices()?;
    let nvml = Nvml::open(places);
    Ok(devices.iter().map(|device| gpu(device.properties(), &nvml)).collect())
}

fn gpu(properties: &DeviceProperties, nvml: &Result<Nvml, Error>) -> GpuFinding {
    // By UUID, since NVML may count otherwise.
    let device = nvml.as_ref().map_err(Clone::clone).and_then(|nvml| nvml.device_by_uuid(&properties.uuid));
    let (major, minor) = properties.compute_capability;
    GpuFinding {
        index: properties.index,
        name: properties.name.clone(),
        uuid: properties.uuid.clone(),
        compute_capability: format!("{major}.{minor}"),
        memory_total_bytes: properties.memory_total_bytes,
        sm_count: properties.sm_count,
        copy_engine_count: properties.copy_engine_count,
        pci_bus_id: properties.pci_bus_id.clone(),
        state_problem: device.as_ref().err().map(ToString::to_string),
        state: device.ok().map(|device| state(device.state())),
    }
}

fn state(state: DeviceState) -> GpuState {
    let reasons = state.throttle_reasons.ok();
    GpuState {
        sm_clock_mhz: state.sm_clock_mhz.ok(),
        sm_clock_max_mhz: state.sm_clock_max_mhz.ok(),
        memory_clock_mhz: state.memory_clock_mhz.ok(),
        power_watts: state.power_watts.ok(),
        power_limit_watts: state.power_limit_watts.ok(),
        temperature_c: state.temperature_c.ok(),
        throttle_reasons: reasons.map(|reasons| {
            let throttling = reasons.into_iter().filter(|reason| reason.is_throttling());
            throttling.map(|reason| format!("{reason:?}")).collect()
        }),
        memory_used_bytes: state.memory_used_bytes.ok(),
        pcie_generation: state.pcie_generation.ok(),
        pcie_width: state.pcie_width.ok(),
    }
}

/// The TensorRT that would be used, or why there is none.
pub(in crate::backend) fn tensorrt(places: &Places) -> Result<TensorRtFinding, Error> {
    let tensorrt = TensorRt::open(places)?;
    Ok(TensorRtFinding {
        name: tensorrt.flavour().name(),
        version: tensorrt.version().to_string(),
        family: format!("{:?}", tensorrt.family()),
        path: tensorrt.path().to_owned(),
        note: tensorrt.abi_note(),
        can_build: tensorrt.flavour() != Flavour::Lean,
        parser_problem: tensorrt.check_parser().err().map(|error| error.to_string()),
        plugins_problem: tensorrt.check_plugins().err().map(|error| error.to_string()),
    })
}
