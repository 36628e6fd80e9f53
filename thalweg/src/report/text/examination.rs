//! The texts of `thalweg doctor`: the machine, and the memory of an engine.

use super::{Fact, Style, Tone, facts, wrap};
use crate::backend::{EngineMemory, Examination, GpuFinding, GpuState, LibraryFinding, TensorRtFinding};
use crate::report::wording;
use crate::units::Bytes;

/// What this machine has to run networks on, as text of at most 80 columns.
pub fn text_of_examination(examination: &Examination, style: Style) -> String {
    let mut text = style.paint_lines(Tone::Bold, &wrap(&verdict(examination), 80));
    text.push('\n');
    let device = &examination.device;
    let cores = if device.core_count == 1 { "core" } else { "cores" };
    let memory = device.memory_bytes.map(|bytes| format!(", {}", Bytes(bytes)));
    let mut lines = vec![Fact::new(
        "device",
        format!(
            "{}, {} {cores}{}",
            wording::printable(&device.name),
            device.core_count,
            memory.unwrap_or_default()
        ),
    )];
    let versions = device.versions.iter().map(|(name, version)| format!("{name} {version}"));
    lines.push(Fact::new("versions", versions.collect::<Vec<_>>().join(", ")));
    lines.extend(examination.gpus.iter().flat_map(gpu));
    lines.extend(queues(examination));
    lines.extend(examination.tensorrt.iter().map(tensorrt));
    lines.extend(examination.libraries.iter().map(library));
    text + &facts(lines, style)
}

/// How many queues the streams share, where there are streams.
fn queues(examination: &Examination) -> Option<Fact> {
    let set = examination.max_connections.as_deref();
    let text = match set {
        Some(value) => format!("CUDA_DEVICE_MAX_CONNECTIONS is {}", wording::printable(value)),
        None => {
            "8, as CUDA_DEVICE_MAX_CONNECTIONS is not set; bench, tune and diagnose take 32 where streams need more"
                .to_owned()
        }
    };
    (set.is_some() || !examination.gpus.is_empty()).then(|| Fact::new("queues", text))
}

fn verdict(examination: &Examination) -> String {
    let backend = &examination.device.backend;
    let runs = format!("networks run on the {backend} backend");
    let missing = examination.libraries.iter().filter(|library| library.found.is_none()).count();
    let some = format!("{missing} of {} NVIDIA libraries are missing", examination.libraries.len());
    let has_gpu = !examination.gpus.is_empty();
    match (&examination.tensorrt_problem, has_gpu) {
        (Some(problem), true) => {
            format!("{runs}, though there is a GPU: {}", wording::printable(problem))
        }
        _ if missing == 0 => format!("{runs}; all of NVIDIA's libraries are here"),
        (None, true) => format!("{runs}; {some}, each with what it would be for below"),
        (_, false) => format!("{runs}; {some}, which only matters for NVIDIA GPUs"),
    }
}

/// A GPU in two lines: what it is, and how it is now.
fn gpu(gpu: &GpuFinding) -> Vec<Fact> {
    let engines = gpu.copy_engine_count.map(|count| format!(", {count} copy engines")).unwrap_or_default();
    let what = format!(
        "{}: {}, compute capability {}, {}, {} SMs{engines}, {}, PCI {}",
        gpu.index,
        wording::printable(&gpu.name),
        gpu.compute_capability,
        Bytes(gpu.memory_total_bytes),
        gpu.sm_count,
        gpu.uuid,
        gpu.pci_bus_id,
    );
    let now = match (&gpu.state, &gpu.state_problem) {
        (Some(state), _) => now(state),
        (None, problem) => format!("unknown: {}", problem.as_deref().unwrap_or("NVML does not tell")),
    };
    let is_throttled =
        gpu.state.iter().flat_map(|state| &state.throttle_reasons).any(|reasons| !reasons.is_empty());
    let tone = if is_throttled { Tone::Warning } else { Tone::Dim };
    vec![Fact::toned("GPU", what, Tone::Good), Fact::toned("  now", now, tone)]
}

fn now(state: &GpuState) -> String {
    let of = |value: Option<String>, most: Option<String>| match (value, most) {
        (Some(value), Some(most)) => Some(format!("{value} of {most}")),
        (value, _) => value,
    };
    let mhz = |clock: Option<u32>| clock.map(|clock| format!("{clock} MHz"));
    let watts = |power: Option<f64>| power.map(|power| format!("{power:.0} W"));
    let clock = of(mhz(state.sm_clock_mhz), mhz(state.sm_clock_max_mhz));
    let power = of(watts(state.power_watts), watts(state.power_limit_watts));
    let pcie = state.pcie_generation.zip(state.pcie_width);
    let throttled = state.throttle_reasons.as_ref().filter(|reasons| !reasons.is_empty());
    let facts = [
        clock.map(|clock| format!("SM clock {clock}")),
        power,
        state.temperature_c.map(|celsius| format!("{celsius} °C")),
        state.memory_used_bytes.map(|bytes| format!("{} of memory taken", Bytes(bytes))),
        pcie.map(|(generation, width)| format!("PCIe {generation} x{width}")),
        throttled.map(|reasons| format!("held back by {}", reasons.join(", "))),
    ];
    facts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn tensorrt(tensorrt: &TensorRtFinding) -> Fact {
    let mut text = format!("{} {}", tensorrt.name, tensorrt.version);
    text += match (tensorrt.can_build, &tensorrt.parser_problem) {
        (false, _) => ", runs engines and builds none",
        (true, None) => ", builds and runs engines",
        (true, Some(_)) => ", runs engines",
    };
    let problem = tensorrt.parser_problem.as_ref().filter(|_| tensorrt.can_build);
    for remark in [problem, tensorrt.note.as_ref()].into_iter().flatten() {
        text += &format!("; {}", wording::printable(remark));
    }
    Fact::toned("engines by", text, if problem.is_some() { Tone::Warning } else { Tone::Good })
}

/// The device memory that executors of an engine take, as text of at most 80 columns.
pub fn text_of_memory(memory: &EngineMemory, style: Style) -> String {
    let EngineMemory { weights_bytes, activation_bytes, slot_bytes, depth, batch_size, free_bytes, .. } =
        *memory;
    let most = memory.largest_executor_count();
    let verdict = format!("at most {most} streams of batch {batch_size} fit into the device's memory");
    let each = format!(
        "{}: {} of activations, {depth} slots of {}, {} contexts of {}",
        Bytes(memory.executor_bytes()),
        Bytes(activation_bytes),
        Bytes(slot_bytes),
        memory.context_count,
        Bytes(memory.context_bytes)
    );
    let lines = [
        Fact::new("weights", format!("{}, once", Bytes(weights_bytes))),
        Fact::new("each stream", each),
        Fact::new("free", format!("{} besides the weights", Bytes(free_bytes))),
        Fact::new("not in it", "what CUDA graphs take, and the driver for itself".to_owned()),
    ];
    format!("{}\n{}", style.paint_lines(Tone::Bold, &wrap(&verdict, 80)), facts(lines, style))
}

fn library(library: &LibraryFinding) -> Fact {
    let problem = library.problem.as_deref().map(wording::printable);
    let text = match &library.found {
        Some(found) => {
            let version = found.version.as_deref().unwrap_or("unknown version");
            let problem = problem.map(|problem| format!(" ({problem})")).unwrap_or_default();
            format!(
                "{} in {}{problem}",
                wording::printable(version),
                wording::printable(&found.path.display().to_string())
            )
        }
        None => {
            let remedy = library.remedy.as_deref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            format!("missing: {}{remedy}", problem.unwrap_or_default())
        }
    };
    let tone = if library.found.is_some() { Tone::Good } else { Tone::Dim };
    Fact::toned(library.name, text, tone)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::backend::{DeviceSpec, FoundLibrary};

    fn examination() -> Examination {
        Examination {
            gpus: Vec::new(),
            gpu_problem: Some("no driver".to_owned()),
            max_connections: None,
            tensorrt: None,
            tensorrt_problem: Some("TensorRT is not there".to_owned()),
            device: DeviceSpec {
                backend: "cpu".to_owned(),
                name: "EPYC".to_owned(),
                core_count: 2,
                memory_bytes: Some(25_300_000_000),
                versions: BTreeMap::from([("rten".to_owned(), "0.27.0".to_owned())]),
            },
            libraries: vec![
                LibraryFinding {
                    name: "TensorRT",
                    found: Some(FoundLibrary {
                        path: "/opt/lib/libnvinfer.so.10".into(),
                        version: Some("10.16.1".to_owned()),
                    }),
                    problem: None,
                    remedy: None,
                    searched: Vec::new(),
                },
                LibraryFinding {
                    name: "NVML",
                    found: None,
                    problem: Some("no libnvidia-ml.so.1 in any place".to_owned()),
                    remedy: Some("it comes with the driver".to_owned()),
                    searched: vec!["/usr/lib".to_owned()],
                },
            ],
        }
    }

    #[test]
    fn says_what_runs_what_is_there_and_what_to_do_about_the_rest() {
        let expected = "\
networks run on the cpu backend; 1 of 2 NVIDIA libraries are missing, which only
matters for NVIDIA GPUs

device    EPYC, 2 cores, 25.3 GB
versions  rten 0.27.0
TensorRT  10.16.1 in /opt/lib/libnvinfer.so.10
NVML      missing: no libnvidia-ml.so.1 in any place; it comes with the driver
";
        assert_eq!(text_of_examination(&examination(), Style::Plain), expected);
    }

    fn hopper() -> GpuFinding {
        GpuFinding {
            index: 0,
            name: "NVIDIA H100".to_owned(),
            uuid: "GPU-5fd4f087".to_owned(),
            compute_capability: "9.0".to_owned(),
            memory_total_bytes: 85_000_000_000,
            sm_count: 132,
            copy_engine_count: Some(3),
            pci_bus_id: "0000:3b:00.0".to_owned(),
            state: Some(GpuState {
                sm_clock_mhz: Some(1980),
                sm_clock_max_mhz: Some(1980),
                power_watts: Some(70.4),
                throttle_reasons: Some(vec!["PowerCap".to_owned()]),
                pcie_generation: Some(5),
                pcie_width: Some(16),
                ..GpuState::default()
            }),
            state_problem: None,
        }
    }

    #[test]
    fn a_gpu_without_tensorrt_is_no_machine_where_that_does_not_matter() {
        let examination = Examination { gpus: vec![hopper()], gpu_problem: None, ..examination() };
        let text = text_of_examination(&examination, Style::Plain);
        let verdict = "networks run on the cpu backend, though there is a GPU: TensorRT is not there\n";
        assert!(text.starts_with(verdict), "{text}");
        assert!(!text.contains("only matters"), "{text}");
        assert!(text.contains("0: NVIDIA H100, compute capability 9.0, 85.0 GB, 132 SMs, 3 copy"), "{text}");
        assert!(text.contains("queues    8, as CUDA_DEVICE_MAX_CONNECTIONS is not set"), "{text}");
        let set = Examination { max_connections: Some("16".to_owned()), ..examination };
        let text = text_of_examination(&set, Style::Plain);
        assert!(text.contains("queues    CUDA_DEVICE_MAX_CONNECTIONS is 16\n"), "{text}");
        assert!(text.contains("SM clock 1980 MHz of 1980 MHz, 70 W, PCIe 5 x16, held back by"), "{text}");
    }

    #[test]
    fn a_tensorrt_tells_what_it_can_do_and_what_it_lacks() {
        let finding = TensorRtFinding {
            name: "TensorRT",
            version: "8.6.0".to_owned(),
            family: "TensorRt8".to_owned(),
            path: "/opt/libnvinfer.so.8".into(),
            note: None,
            can_build: true,
            parser_problem: None,
            plugins_problem: None,
        };
        assert_eq!(tensorrt(&finding).text, "TensorRT 8.6.0, builds and runs engines");
        let mixed = TensorRtFinding { parser_problem: Some("of two releases".to_owned()), ..finding.clone() };
        assert_eq!(tensorrt(&mixed).text, "TensorRT 8.6.0, runs engines; of two releases");
        let lean = TensorRtFinding { can_build: false, ..mixed };
        assert_eq!(tensorrt(&lean).text, "TensorRT 8.6.0, runs engines and builds none");
    }

    #[test]
    fn memory_is_told_with_the_most_streams_that_fit() {
        let memory = EngineMemory {
            weights_bytes: 53_000_000,
            activation_bytes: 400_000_000,
            context_bytes: 1_000_000,
            context_count: 3,
            slot_bytes: 50_000_000,
            depth: 2,
            batch_size: 8,
            free_bytes: 2_000_000_000,
        };
        let text = text_of_memory(&memory, Style::Plain);
        assert!(text.starts_with("at most 3 streams of batch 8 fit"), "{text}");
        let each = "503 MB: 400 MB of activations, 2 slots of 50.0 MB, 3 contexts of";
        assert!(text.contains(each), "{text}");
    }
}
