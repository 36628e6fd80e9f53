//! What vendors print about their devices: facts for predictions and for the simulated devices.

use serde::Serialize;

use super::Precision;
use crate::units::Bytes;

/// Ceilings of a device as its data sheet gives them: what is reached in practice is lower.
///
/// Arithmetic is dense (without sparsity) and a multiply-add counts as 2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DataSheet {
    /// The short name on the command line.
    pub key: &'static str,
    /// What the vendor calls it.
    pub name: &'static str,
    /// What its driver calls it.
    pub driver_name: &'static str,
    /// Streaming multiprocessors.
    pub sm_count: u32,
    /// Highest clock of the SMs in MHz.
    pub sm_clock_max_mhz: f64,
    /// FP16 or BF16 on tensor cores, in FLOP/s.
    pub fp16_flops_per_s: f64,
    /// INT8 on tensor cores, in operations/s.
    pub int8_ops_per_s: f64,
    /// FP32 outside the tensor cores, in FLOP/s.
    pub fp32_flops_per_s: f64,
    /// DRAM bandwidth in bytes/s, reads and writes together.
    pub dram_bytes_per_s: f64,
    /// Size of the DRAM.
    pub memory: Bytes,
    /// Size of the L2 cache.
    pub l2: Bytes,
    /// Bandwidth to the host in bytes/s, one direction.
    pub pcie_bytes_per_s: f64,
    /// Power limit in watts.
    pub power_limit_watts: f64,
    /// Where the figures come from.
    pub source: &'static str,
}

impl DataSheet {
    /// What is promised on the tensor cores in a precision, per second: FP32 as TF32, at half the rate of FP16, as TensorRT
    /// computes it unless it is told otherwise.
    pub fn tensor_flops_per_s(&self, precision: Precision) -> f64 {
        match precision {
            Precision::Fp32 => self.fp16_flops_per_s / 2.0,
            Precision::Fp16 | Precision::Bf16 => self.fp16_flops_per_s,
            Precision::Int8 => self.int8_ops_per_s,
        }
    }

    /// The device of this short name: `h100`, `a100`, `l4` or `orin`.
    pub fn of(key: &str) -> Option<Self> {
        ALL.into_iter().find(|sheet| sheet.key == key)
    }

    /// The device that a driver, or a simulated backend, calls by this name.
    pub fn of_device(name: &str) -> Option<Self> {
        // A simulated one has more behind its name; an L40S is no L4.
        let is_of = |sheet: &Self| {
            let behind = name.strip_prefix(sheet.name);
            name == sheet.driver_name
                || behind.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ',']))
        };
        ALL.into_iter().find(is_of)
    }

    /// All devices that are known by a short name.
    pub fn all() -> &'static [Self] {
        &ALL
    }
}

const H100: DataSheet = DataSheet {
    key: "h100",
    name: "NVIDIA H100 SXM 80 GB",
    driver_name: "NVIDIA H100 80GB HBM3",
    sm_count: 132,
    sm_clock_max_mhz: 1980.0,
    fp16_flops_per_s: 989.4e12,
    int8_ops_per_s: 1978.9e12,
    fp32_flops_per_s: 66.9e12,
    dram_bytes_per_s: 3.352e12,
    memory: Bytes(80_000_000_000),
    l2: Bytes(50 << 20),
    // Generation 5, 16 lanes.
    pcie_bytes_per_s: 63.0e9,
    power_limit_watts: 700.0,
    source: "NVIDIA H100 Tensor Core GPU Architecture, v1.04, tables 2 and 3",
};

const ALL: [DataSheet; 5] = [
    H100,
    // The chip of the H100 with other memory.
    DataSheet {
        key: "h200",
        name: "NVIDIA H200 SXM 141 GB",
        driver_name: "NVIDIA H200",
        dram_bytes_per_s: 4.8e12,
        memory: Bytes(141_000_000_000),
        // As its driver says.
        l2: Bytes(60 << 20),
        source: "NVIDIA H200 Tensor Core GPU data sheet, November 2024; the chip as in that of the H100",
        ..H100
    },
    DataSheet {
        key: "a100",
        name: "NVIDIA A100 SXM 80 GB",
        driver_name: "NVIDIA A100-SXM4-80GB",
        sm_count: 108,
        sm_clock_max_mhz: 1410.0,
        fp16_flops_per_s: 312.0e12,
        int8_ops_per_s: 624.0e12,
        fp32_flops_per_s: 19.5e12,
        dram_bytes_per_s: 2.039e12,
        memory: Bytes(80_000_000_000),
        l2: Bytes(40 << 20),
        // Generation 4, 16 lanes.
        pcie_bytes_per_s: 31.5e9,
        power_limit_watts: 400.0,
        source: "NVIDIA A100 80GB data sheet, June 2021; NVIDIA A100 Tensor Core GPU Architecture, table 4",
    },
    DataSheet {
        key: "l4",
        name: "NVIDIA L4",
        driver_name: "NVIDIA L4",
        sm_count: 58,
        sm_clock_max_mhz: 2040.0,
        fp16_flops_per_s: 121.0e12,
        int8_ops_per_s: 242.0e12,
        fp32_flops_per_s: 30.3e12,
        dram_bytes_per_s: 300.0e9,
        memory: Bytes(24_000_000_000),
        l2: Bytes(48 << 20),
        // Generation 4, 16 lanes.
        pcie_bytes_per_s: 31.5e9,
        power_limit_watts: 72.0,
        source: "NVIDIA L4 Tensor Core GPU data sheet, March 2023",
    },
    DataSheet {
        key: "orin",
        name: "NVIDIA Jetson AGX Orin 64 GB",
        driver_name: "Orin",
        sm_count: 16,
        sm_clock_max_mhz: 1300.0,
        // 170 sparse INT8 TOPS of the GPU are 85 dense; FP16 is half of that.
        fp16_flops_per_s: 42.5e12,
        int8_ops_per_s: 85.0e12,
        fp32_flops_per_s: 5.3e12,
        dram_bytes_per_s: 204.8e9,
        memory: Bytes(64_000_000_000),
        l2: Bytes(4 << 20),
        // Host and device share one memory: a copy reads and writes it once each.
        pcie_bytes_per_s: 102.4e9,
        power_limit_watts: 60.0,
        source: "NVIDIA Jetson AGX Orin Series technical brief, v1.2, July 2022",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_their_drivers_names_and_by_those_of_simulated_ones() {
        let key = |name: &str| DataSheet::of_device(name).map(|sheet| sheet.key);
        for sheet in DataSheet::all() {
            assert_eq!(key(sheet.driver_name), Some(sheet.key));
            assert_eq!(key(&format!("{} (simulated)", sheet.name)), Some(sheet.key));
        }
        for other in ["NVIDIA L40S", "NVIDIA H200 NVL", "NVIDIA H100 PCIe", "AMD EPYC"] {
            assert_eq!(key(other), None, "{other}");
        }
    }
}
