//! The text of `thalweg doctor`.

use super::{Fact, Style, Tone, facts, wrap};
use crate::backend::{Examination, LibraryFinding};
use crate::report::wording;

/// What this machine has to run networks on, as text of at most 80 columns.
pub fn text_of_examination(examination: &Examination, style: Style) -> String {
    let mut text = style.paint_lines(Tone::Bold, &wrap(&verdict(examination), 80));
    text.push('\n');
    let device = &examination.device;
    let cores = if device.core_count == 1 { "core" } else { "cores" };
    let memory = device.memory_bytes.map(|bytes| format!(", {}", crate::units::Bytes(bytes)));
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
    lines.extend(examination.libraries.iter().map(library));
    text + &facts(lines, style)
}

fn verdict(examination: &Examination) -> String {
    let backend = &examination.device.backend;
    let missing = examination.libraries.iter().filter(|library| library.found.is_none()).count();
    let rest = match missing {
        0 => "all of NVIDIA's libraries are here".to_owned(),
        _ => format!(
            "{missing} of {} NVIDIA libraries are missing, which only matters for NVIDIA GPUs",
            examination.libraries.len()
        ),
    };
    format!("networks run on the {backend} backend; {rest}")
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

    #[test]
    fn says_what_runs_what_is_there_and_what_to_do_about_the_rest() {
        let examination = Examination {
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
        };
        let expected = "\
networks run on the cpu backend; 1 of 2 NVIDIA libraries are missing, which only
matters for NVIDIA GPUs

device    EPYC, 2 cores, 25.3 GB
versions  rten 0.27.0
TensorRT  10.16.1 in /opt/lib/libnvinfer.so.10
NVML      missing: no libnvidia-ml.so.1 in any place; it comes with the driver
";
        assert_eq!(text_of_examination(&examination, Style::Plain), expected);
    }
}
