//! What was seen of a watched program in words, for the text and the HTML report.

use super::wording::{self, NONE};
use crate::watch::{Cause, Finding, Gap, GapCause, Gauge, Observation, Reading};

/// `Pageable copies cost most: 15.2 ms of 38.5 ms (39.5 %).`
pub(super) fn verdict(observation: &Observation) -> String {
    let computing = wording::percent(observation.sharing.computing);
    match (observation.verdict.as_str(), observation.findings.first()) {
        ("nothing_ran", _) => "Nothing was seen to run on a GPU.".to_owned(),
        ("healthy", first) => {
            let rest = first.map_or_else(String::new, |first| {
                format!("; the most, {}, is lost to {}", wording::percent(first.share), name(first.cause))
            });
            format!("Healthy: the GPU computed {computing} of the time{rest}.")
        }
        (_, Some(first)) => format!(
            "{} cost most: {} of {} ({}); the GPU computed {computing} of the time.",
            capitalised(name(first.cause)),
            first.lost,
            observation.window,
            wording::percent(first.share),
        ),
        (_, None) => format!("The GPU computed {computing} of the time."),
    }
}

/// What is lost to a cause, as a plural noun.
pub(super) fn name(cause: Cause) -> &'static str {
    match cause {
        Cause::PageableCopy => "pageable copies",
        Cause::DefaultStream => "work on the default stream",
        Cause::SerialCopy => "copies beside nothing",
        Cause::SerialFill => "fills of memory beside nothing",
        Cause::Synchronisation => "waits for the device",
        Cause::Submission => "slow launches",
        Cause::HostPause => "pauses of the host",
        Cause::SetUp => "allocations and loading",
        Cause::Device => "gaps on the device",
        Cause::SerialStreams => "streams that never overlap",
        Cause::Unknown => "launches that nobody saw",
    }
}

/// What would help.
pub(super) fn advice(finding: &Finding) -> &'static str {
    match finding.cause {
        Cause::PageableCopy => {
            "copy from and to pinned memory, in PyTorch with pin_memory=True and non_blocking=True"
        }
        Cause::DefaultStream => {
            "give copies and computations streams of their own: nothing runs beside work on the default stream"
        }
        Cause::SerialCopy => "copy the next item in another stream while this one is computed",
        Cause::SerialFill => "set memory in another stream, or only where what is in it would be read",
        Cause::Synchronisation => {
            "wait for an item after the next ones were enqueued: after each wait the device has nothing to do until the host has launched more"
        }
        Cause::Submission => {
            "replay the launches as a CUDA graph, compute larger batches, or compile the model"
        }
        Cause::HostPause => "prepare items on other threads, ahead of the thread that launches",
        Cause::SetUp => "allocate memory and load kernels before the loop, not in it",
        Cause::Device => "fuse small kernels or replay them as a CUDA graph",
        Cause::SerialStreams => {
            "look for what orders the streams: events, the default stream, or too few queues"
        }
        Cause::Unknown => "record the program from its start",
    }
}

/// What a finding is about, with the bytes of copies.
pub(super) fn what(finding: &Finding) -> String {
    let name = name(finding.cause);
    finding.bytes.map_or_else(|| name.to_owned(), |bytes| format!("{name} of {bytes}"))
}

/// `19 gaps, 24.1 ms: waiting for a copy`
pub(super) fn gap(gap: &Gap) -> String {
    let cause = match gap.cause {
        GapCause::Host => "the host, which had not launched yet",
        GapCause::Copy => "a copy or a fill",
        GapCause::OtherStream => "another stream",
        GapCause::Device => "nothing that was seen",
    };
    format!("{} gaps, {} in all, waiting for {cause}", wording::count(gap.count), gap.total)
}

/// What a gauge is called.
pub(super) fn gauge(gauge: Gauge) -> &'static str {
    match gauge {
        Gauge::GpuUtilisation => "any kernel",
        Gauge::SmActivity => "SM activity",
        Gauge::SmOccupancy => "SM occupancy",
        Gauge::TensorActivity => "tensor pipes",
        Gauge::Dram => "DRAM",
        Gauge::PcieRx => "PCIe to GPU",
        Gauge::PcieTx => "PCIe from GPU",
        Gauge::BusiestThread => "busiest thread",
        Gauge::Memory => "memory",
        Gauge::SmClock => "SM clock",
        Gauge::Power => "power",
    }
}

/// What a gauge says, in its unit.
pub(super) fn gauge_value(gauge: Gauge, value: Option<f64>) -> String {
    let Some(value) = value else { return NONE.to_owned() };
    match gauge {
        Gauge::GpuUtilisation
        | Gauge::SmActivity
        | Gauge::SmOccupancy
        | Gauge::TensorActivity
        | Gauge::Dram
        | Gauge::BusiestThread => wording::percent(value),
        Gauge::PcieRx | Gauge::PcieTx => format!("{} GB/s", wording::number(value / 1e9)),
        Gauge::Memory => format!("{} GB", wording::number(value / 1e9)),
        Gauge::SmClock => format!("{} MHz", wording::number(value)),
        Gauge::Power => format!("{} W", wording::number(value)),
    }
}

/// Why clocks are low, and why counters are missing.
pub(super) fn remarks(reading: &Reading) -> Vec<String> {
    let reasons: Vec<_> =
        reading.counters.throttle_reasons.iter().filter(|it| *it != "Idle").cloned().collect();
    let held = (!reasons.is_empty()).then(|| format!("clocks are held back: {}", reasons.join(", ")));
    let missing = reading.counters.unavailable.as_ref();
    held.into_iter()
        .chain(missing.map(|reason| format!("no counters: {}", wording::printable(reason))))
        .collect()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
