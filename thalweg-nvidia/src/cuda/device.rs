//! One GPU: what it is, before anything runs on it.

use std::ffi::{c_char, c_int, c_uint};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::cuda::CudaContext;
use crate::cuda::api::{DeviceOrdinal, DriverApi};
use crate::error::Result;

/// Room for a device's name and for its PCI address. NVIDIA names no limit; both are far shorter.
const TEXT_BUFFER_SIZE: c_int = 256;

/// Where Linux describes PCI devices.
const PCI_DEVICES: &str = "/sys/bus/pci/devices";

/// Values of `CUdevice_attribute` in cuda.h.
mod attribute {
    pub(super) const SM_CLOCK_KHZ: i32 = 13;
    pub(super) const SM_COUNT: i32 = 16;
    pub(super) const IS_INTEGRATED: i32 = 18;
    pub(super) const MEMORY_CLOCK_KHZ: i32 = 36;
    pub(super) const MEMORY_BUS_WIDTH_BITS: i32 = 37;
    pub(super) const L2_CACHE_BYTES: i32 = 38;
    pub(super) const THREADS_PER_SM: i32 = 39;
    pub(super) const COPY_ENGINE_COUNT: i32 = 40;
    pub(super) const COMPUTE_CAPABILITY_MAJOR: i32 = 75;
    pub(super) const COMPUTE_CAPABILITY_MINOR: i32 = 76;
    pub(super) const SHARED_MEMORY_PER_SM_BYTES: i32 = 81;
    pub(super) const SHARED_MEMORY_PER_BLOCK_BYTES: i32 = 97;
}

/// What a GPU is. Values that the driver does not tell are `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceProperties {
    /// CUDA's number for it, from 0. NVML may count differently: match devices by [`uuid`](Self::uuid).
    pub index: u32,
    /// For example `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// As `nvidia-smi -L` shows it, for example `GPU-5fd4f087-86f3-7a43-b711-4771313afc50`; that of a MIG slice begins
    /// with `MIG-` there.
    pub uuid: String,
    /// Major and minor, for example (9, 0).
    pub compute_capability: (u32, u32),
    /// Size of the device memory, in bytes.
    pub memory_total_bytes: u64,
    /// Domain, bus, device and function, for example `0000:3b:00.0`.
    pub pci_bus_id: String,
    /// Number of streaming multiprocessors.
    pub sm_count: u32,
    /// Most threads that one SM holds at the same time.
    pub threads_per_sm: Option<u32>,
    /// Highest clock of the SMs, in MHz.
    pub sm_clock_max_mhz: Option<u32>,
    /// Highest clock of the memory, in MHz. Data moves on both edges: twice per cycle.
    pub memory_clock_max_mhz: Option<u32>,
    /// Width of the memory bus, in bits.
    pub memory_bus_width_bits: Option<u32>,
    /// Size of the second-level cache, in bytes.
    pub l2_cache_bytes: Option<u32>,
    /// Shared memory of one SM, in bytes.
    pub shared_memory_per_sm_bytes: Option<u32>,
    /// Most shared memory that one thread block can ask for, in bytes.
    pub shared_memory_per_block_bytes: Option<u32>,
    /// Number of copy engines: with two or more, H2D and D2H run at the same time.
    pub copy_engine_count: Option<u32>,
    /// Whether it shares its memory with the host, as on a Jetson: then copies move nothing over PCIe.
    pub is_integrated: bool,
    /// The host's NUMA node that the device hangs on; `None` on a host with one node.
    pub numa_node: Option<u32>,
}

/// How a host thread waits inside calls that wait for the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostWait {
    /// As the process has it already: by default the driver chooses.
    #[default]
    Unchanged,
    /// Burns a core, answers soonest.
    Spin,
    /// Spins, but lets other threads go first.
    Yield,
    /// Sleeps until the device interrupts.
    Block,
}

impl HostWait {
    /// `CU_CTX_SCHED_SPIN`, `_YIELD` and `_BLOCKING_SYNC` of cuda.h.
    fn flags(self) -> Option<c_uint> {
        match self {
            Self::Unchanged => None,
            Self::Spin => Some(1),
            Self::Yield => Some(2),
            Self::Block => Some(4),
        }
    }
}

/// One GPU that CUDA sees.
#[derive(Clone)]
pub struct Device {
    api: Arc<DriverApi>,
    ordinal: DeviceOrdinal,
    properties: DeviceProperties,
}

impl Device {
    #[doc(alias = "cuDeviceGet")]
    pub(crate) fn open(api: Arc<DriverApi>, index: c_int) -> Result<Self> {
        let mut ordinal = 0;
        // SAFETY: `ordinal` is writable; an index that does not exist is refused.
        unsafe { api.device(&raw mut ordinal, index) }?;
        let properties = DeviceProperties::read(&api, ordinal, index.unsigned_abs())?;
        Ok(Self { api, ordinal, properties })
    }

    /// What it is.
    pub fn properties(&self) -> &DeviceProperties {
        &self.properties
    }

    /// The context that TensorRT and the CUDA runtime use for this device in this process. It lives until the
    /// last owner of anything made in it is dropped.
    ///
    /// `host_wait` holds for the whole process, except for [`HostWait::Unchanged`].
    ///
    /// # Errors
    /// Where the driver cannot make it, most often because the device memory is full.
    #[doc(alias = "cuDevicePrimaryCtxRetain")]
    #[doc(alias = "cuDevicePrimaryCtxSetFlags")]
    pub fn retain_primary_context(&self, host_wait: HostWait) -> Result<Arc<CudaContext>> {
        if let Some(flags) = host_wait.flags() {
            // SAFETY: the device exists; the flags are ones that cuda.h defines.
            unsafe { self.api.primary_context_set_flags(self.ordinal, flags) }?;
        }
        CudaContext::retain(Arc::clone(&self.api), self.ordinal, self.properties.clone()).map(Arc::new)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.properties.fmt(f)
    }
}

impl DeviceProperties {
    fn read(api: &DriverApi, device: DeviceOrdinal, index: u32) -> Result<Self> {
        use attribute as a;
        let required = |attribute| read_attribute(api, device, attribute);
        let optional = |attribute| required(attribute).ok().filter(|value| *value > 0);
        let pci_bus_id = read_pci_bus_id(api, device)?;
        Ok(Self {
            index,
            name: read_name(api, device)?,
            uuid: read_uuid(api, device)?,
            compute_capability: (
                required(a::COMPUTE_CAPABILITY_MAJOR)?,
                required(a::COMPUTE_CAPABILITY_MINOR)?,
            ),
            memory_total_bytes: read_total_memory(api, device)?,
            sm_count: required(a::SM_COUNT)?,
            threads_per_sm: optional(a::THREADS_PER_SM),
            sm_clock_max_mhz: optional(a::SM_CLOCK_KHZ).map(|khz| khz / 1000),
            memory_clock_max_mhz: optional(a::MEMORY_CLOCK_KHZ).map(|khz| khz / 1000),
            memory_bus_width_bits: optional(a::MEMORY_BUS_WIDTH_BITS),
            l2_cache_bytes: optional(a::L2_CACHE_BYTES),
            shared_memory_per_sm_bytes: optional(a::SHARED_MEMORY_PER_SM_BYTES),
            shared_memory_per_block_bytes: optional(a::SHARED_MEMORY_PER_BLOCK_BYTES),
            copy_engine_count: optional(a::COPY_ENGINE_COUNT),
            is_integrated: optional(a::IS_INTEGRATED).is_some(),
            numa_node: numa_node(Path::new(PCI_DEVICES), &pci_bus_id),
            pci_bus_id,
        })
    }
}

#[doc(alias = "cuDeviceGetAttribute")]
fn read_attribute(api: &DriverApi, device: DeviceOrdinal, attribute: c_int) -> Result<u32> {
    let mut value = 0;
    // SAFETY: `value` is writable; an attribute that the driver does not know is refused.
    unsafe { api.device_attribute(&raw mut value, attribute, device) }?;
    Ok(u32::try_from(value).unwrap_or(0))
}

#[doc(alias = "cuDeviceGetName")]
fn read_name(api: &DriverApi, device: DeviceOrdinal) -> Result<String> {
    // SAFETY: the driver writes at most as many bytes as it is told, the final zero included.
    read_text(|text, length| unsafe { api.device_name(text, length, device) })
}

#[doc(alias = "cuDeviceGetPCIBusId")]
fn read_pci_bus_id(api: &DriverApi, device: DeviceOrdinal) -> Result<String> {
    // SAFETY: as for the name.
    read_text(|text, length| unsafe { api.device_pci_bus_id(text, length, device) })
}

fn read_text(read: impl FnOnce(*mut c_char, c_int) -> Result<()>) -> Result<String> {
    let mut text = [0_u8; TEXT_BUFFER_SIZE as usize];
    read(text.as_mut_ptr().cast(), TEXT_BUFFER_SIZE)?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    Ok(String::from_utf8_lossy(&text[..end]).into_owned())
}

#[doc(alias = "cuDeviceTotalMem")]
fn read_total_memory(api: &DriverApi, device: DeviceOrdinal) -> Result<u64> {
    let mut bytes = 0;
    // SAFETY: `bytes` is writable.
    unsafe { api.device_total_memory(&raw mut bytes, device) }?;
    Ok(bytes as u64)
}

#[doc(alias = "cuDeviceGetUuid")]
fn read_uuid(api: &DriverApi, device: DeviceOrdinal) -> Result<String> {
    let mut bytes = [0; 16];
    // SAFETY: `CUuuid` is 16 bytes.
    unsafe { api.device_uuid(&raw mut bytes, device) }?;
    Ok(uuid_text(bytes))
}

/// As `nvidia-smi` and NVML write it.
fn uuid_text(bytes: [u8; 16]) -> String {
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!("GPU-{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
}

/// Linux says -1 where there is only one node.
fn numa_node(pci_devices: &Path, pci_bus_id: &str) -> Option<u32> {
    let file = pci_devices.join(pci_bus_id.to_lowercase()).join("numa_node");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::Folder;

    #[test]
    fn a_uuid_is_written_as_nvidia_smi_writes_it() {
        let bytes =
            [0x5f, 0xd4, 0xf0, 0x87, 0x86, 0xf3, 0x7a, 0x43, 0xb7, 0x11, 0x47, 0x71, 0x31, 0x3a, 0xfc, 0x50];
        assert_eq!(uuid_text(bytes), "GPU-5fd4f087-86f3-7a43-b711-4771313afc50");
    }

    #[test]
    fn the_numa_node_is_read_from_linux_and_minus_one_means_none() {
        let folder = Folder::new("numa");
        folder.write("0000:3b:00.0/numa_node", b"1\n");
        folder.write("0000:5e:00.0/numa_node", b"-1\n");
        assert_eq!(numa_node(folder.path(), "0000:3B:00.0"), Some(1));
        assert_eq!(numa_node(folder.path(), "0000:5e:00.0"), None);
        assert_eq!(numa_node(folder.path(), "0000:99:00.0"), None);
    }
}
