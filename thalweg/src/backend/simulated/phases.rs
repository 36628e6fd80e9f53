//! How long kernels take on a simulated device, and what they hold of it meanwhile.
//!
//! In: [`Kernel`]s and [`Parameters`]. Out: a [`Program`] of a few [`Phase`]s, each a run of neighbouring
//! kernels, since one event per kernel would make long simulations slow.

use super::kernels::Kernel;
use super::parameters::Parameters;

/// Phases of one program at most: enough that filled and empty stretches of a network stay apart.
const MOST_PHASES: usize = 16;

/// Work of an engine on a device: one execution at one batch size.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Program {
    pub phases: Vec<Phase>,
    /// Kernels of all phases: what the host has to launch without a graph.
    pub kernel_count: usize,
}

/// A stretch of kernels that run one after the other. Times are in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Phase {
    /// Kernels launched before its first one.
    pub kernels_before: usize,
    /// The stream waits and holds nothing.
    pub gap_s: f64,
    /// The kernels run, with the device for themselves.
    pub work_s: f64,
    /// The part of that in which pipelines fill and nothing is done yet.
    pub ramp_s: f64,
    /// What they hold: this much time of all SMs' room, ...
    pub sm_s: f64,
    /// ... of a resident warp on all SMs, ...
    pub resident_s: f64,
    /// ... of the reachable DRAM bandwidth, ...
    pub dram_s: f64,
    /// ... and of the tensor cores' peak.
    pub tensor_s: f64,
}

/// What a phase holds of the device while it runs, and for how long it would.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Holding {
    pub work_s: f64,
    pub sm_share: f64,
    pub resident_share: f64,
    pub dram_share: f64,
    pub tensor_share: f64,
}

impl Program {
    /// The kernels on this device.
    pub fn of(kernels: &[Kernel], device: &Parameters) -> Self {
        let group = kernels.len().div_ceil(MOST_PHASES);
        let phases = kernels.chunks(group).enumerate().map(|(index, chunk)| {
            let timed = chunk.iter().map(|kernel| phase(kernel, device));
            Phase { kernels_before: index * group, ..timed.fold(Phase::default(), Phase::then) }
        });
        Self { phases: phases.collect(), kernel_count: kernels.len() }
    }
}

impl Phase {
    /// This phase and the next as one.
    fn then(self, next: Self) -> Self {
        Self {
            kernels_before: self.kernels_before,
            gap_s: self.gap_s + next.gap_s,
            work_s: self.work_s + next.work_s,
            ramp_s: self.ramp_s + next.ramp_s,
            sm_s: self.sm_s + next.sm_s,
            resident_s: self.resident_s + next.resident_s,
            dram_s: self.dram_s + next.dram_s,
            tensor_s: self.tensor_s + next.tensor_s,
        }
    }

    /// What it holds where its ramps take `slower` times as long as alone.
    pub fn holding(&self, slower: f64) -> Holding {
        let work_s = self.work_s + (slower - 1.0) * self.ramp_s;
        let share = |held_s: f64| if work_s > 0.0 { held_s / work_s } else { 0.0 };
        Holding {
            work_s,
            sm_share: share(self.sm_s),
            resident_share: share(self.resident_s),
            dram_share: share(self.dram_s),
            tensor_share: share(self.tensor_s),
        }
    }
}

/// One kernel by itself: a ramp, then thread blocks in waves or DRAM, whichever takes longer.
///
/// A block gets at most one SM, so a kernel of few blocks leaves the others to other streams; while its ramp
/// lasts it holds the SMs of its blocks all the same.
fn phase(kernel: &Kernel, device: &Parameters) -> Phase {
    let parameters = &device.kernels;
    let sms = f64::from(device.sheet.sm_count);
    let peak = if kernel.is_product { device.sheet.fp16_flops_per_s } else { device.sheet.fp32_flops_per_s };
    let blocks = (kernel.outputs / parameters.tile).max(1.0);
    let fill = (blocks / sms).min(1.0);
    let arithmetic_s = kernel.flops / blocks / (peak * parameters.tensor_efficiency / sms);
    let block_s = arithmetic_s + parameters.block_s;
    let dram_s = dram_bytes(kernel, device) / device.dram_bytes_per_s();
    let body_s = (block_s * (blocks / sms).max(1.0)).max(dram_s);
    let work_s = parameters.ramp_s + body_s;
    Phase {
        kernels_before: 0,
        gap_s: parameters.gap_s,
        work_s,
        ramp_s: parameters.ramp_s,
        sm_s: fill * parameters.ramp_s + block_s * blocks / sms,
        resident_s: fill * work_s,
        dram_s,
        tensor_s: if kernel.is_product { kernel.flops / peak } else { 0.0 },
    }
}

/// Traffic that misses the L2 cache: nearly all of it where the kernel's tensors are much larger than the
/// cache, hardly any where they are smaller.
fn dram_bytes(kernel: &Kernel, device: &Parameters) -> f64 {
    /// Models declare FP32.
    const DECLARED_BYTES: f64 = 4.0;
    let scale = device.element_bytes / DECLARED_BYTES;
    let activations = kernel.activation_bytes * scale;
    let weights = kernel.weight_bytes * scale;
    let reach = device.sheet.l2.0 as f64 * device.kernels.cache_reach;
    weights + activations * (activations / (activations + reach))
}
