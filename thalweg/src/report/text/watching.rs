//! The text for what was seen of a watched program, and of a GPU over time.

use super::{Fact, Style, Tone, align_numbers, bare_table, facts, lines_of, wrap};
use crate::report::watching;
use crate::report::wording::{self, NONE};
use crate::watch::{Finding, Gauge, GpuReadings, Observation, Reading, ThreadReading, Watched};

/// Streams and threads that are listed; the rest is in the JSON.
const MOST_LISTED: usize = 8;

/// Cells of a bar.
const BAR: usize = 40;

/// What was seen of a command, as text of at most 80 columns.
pub fn text_of_watched(watched: &Watched, style: Style) -> String {
    let mut text = String::new();
    let Some((first, others)) = watched.processes.split_first() else {
        text += &style.paint_lines(Tone::Bold, "No process of the command started CUDA.");
        return text + &gpu(watched, style);
    };
    text += &style.paint_lines(Tone::Bold, &wrap(&watching::verdict(first), 80));
    for remark in &first.remarks {
        text += &style.paint_lines(Tone::Warning, &wrap(&wording::printable(remark), 80));
    }
    text += &facts(summary(first), style);
    if !first.findings.is_empty() {
        text.push('\n');
        text += &findings(&first.findings, style);
    }
    for other in others {
        let line = format!("process {}: {}", other.process, watching::verdict(other));
        text += &style.paint_lines(Tone::Dim, &wrap(&line, 80));
    }
    text + &gpu(watched, style)
}

fn summary(observation: &Observation) -> Vec<Fact> {
    let sharing = &observation.sharing;
    let program = format!("{}, process {}", wording::printable(&observation.program), observation.process);
    let work = format!(
        "{} kernels and {} runs of graphs in {} on device {}",
        wording::count(observation.kernel_count),
        wording::count(observation.graph_run_count),
        observation.window,
        observation.device
    );
    let under = sharing.copies_under_compute.map_or_else(String::new, |share| {
        format!(", {} of that beside a computation", wording::percent(share))
    });
    let overlap = format!(
        "computing {} of the time, two or more streams at once {}, copying {}{under}",
        wording::percent(sharing.computing),
        wording::percent(sharing.computing_twice),
        wording::percent(sharing.copying),
    );
    let mut facts =
        vec![Fact::new("program", program), Fact::new("work", work), Fact::new("overlap", overlap)];
    if let Some(kernels) = observation.kernels_per_graph_run {
        facts.push(Fact::new("graphs", format!("{} kernels in each run", wording::number(kernels))));
    }
    facts.extend(observation.threads.iter().take(MOST_LISTED).map(|it| Fact::new("thread", thread(it))));
    let streams = observation.streams.iter().take(MOST_LISTED).map(|stream| {
        let default = if stream.is_default { ", the default stream" } else { "" };
        let text = format!(
            "{}{default}: {} computations {}, {} copies {}",
            stream.stream,
            wording::count(stream.computation_count),
            wording::percent(stream.computing),
            wording::count(stream.copy_count),
            wording::percent(stream.copying),
        );
        Fact::new("stream", text)
    });
    facts.extend(streams);
    facts.extend(observation.gaps.iter().map(|gap| Fact::new("gaps", watching::gap(gap))));
    let advice = observation.findings.first().filter(|_| observation.verdict != "healthy");
    facts.extend(advice.map(|finding| Fact::toned("advice", watching::advice(finding), Tone::Good)));
    facts
}

fn thread(reading: &ThreadReading) -> String {
    let each = if reading.wait_count > 0 {
        let ratio = reading.enqueue_count as f64 / reading.wait_count as f64;
        format!(": one for every {} that give work", wording::number(ratio))
    } else {
        String::new()
    };
    format!(
        "{}: {} calls that give work, {} of the time; {} that wait, {}{each}",
        reading.thread,
        wording::count(reading.enqueue_count),
        wording::percent(reading.enqueue_share),
        wording::count(reading.wait_count),
        wording::percent(reading.wait_share),
    )
}

fn findings(findings: &[Finding], style: Style) -> String {
    let mut table = bare_table();
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_width(super::WIDTH);
    table.set_header(["what costs time", "thread", "call", "count", "lost", "share"]);
    for finding in findings {
        table.add_row([
            watching::what(finding),
            finding.thread.map_or_else(|| NONE.to_owned(), |thread| thread.to_string()),
            finding.call.as_deref().map_or_else(|| NONE.to_owned(), wording::printable),
            wording::count(finding.count),
            finding.lost.to_string(),
            wording::percent(finding.share),
        ]);
    }
    align_numbers(&mut table, 3..6);
    let mut lines = lines_of(&table);
    lines[0] = style.paint(Tone::Dim, &lines[0]);
    lines.join("\n") + "\n"
}

fn gpu(watched: &Watched, style: Style) -> String {
    match (&watched.gpu, &watched.gpu_problem) {
        (Some(gpu), doubt) => {
            let doubt = doubt.as_deref().map_or_else(String::new, |doubt| {
                style.paint_lines(Tone::Warning, &wrap(&wording::printable(doubt), 80))
            });
            format!("\n{}{doubt}", text_of_gpu(gpu, style))
        }
        (None, Some(problem)) => {
            let line = format!("no gauges of the GPU: {}", wording::printable(problem));
            style.paint_lines(Tone::Dim, &wrap(&line, 80))
        }
        (None, None) => String::new(),
    }
}

/// What NVML said of a GPU over time, as text of at most 80 columns.
pub fn text_of_gpu(gpu: &GpuReadings, style: Style) -> String {
    let Some(last) = gpu.readings.last() else {
        return style.paint_lines(Tone::Dim, "the GPU was not read: it took less than one period");
    };
    let mut table = bare_table();
    table.set_header([&wording::printable(&gpu.name), "mean", "lowest", "highest", "limit"]);
    for gauge in Gauge::ALL {
        let values: Vec<f64> = gpu.readings.iter().filter_map(|reading| gauge.value(reading)).collect();
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let cell = |value| watching::gauge_value(gauge, value);
        table.add_row([
            watching::gauge(gauge).to_owned(),
            cell(mean),
            cell(values.iter().copied().reduce(f64::min)),
            cell(values.iter().copied().reduce(f64::max)),
            cell(gauge.limit(last)),
        ]);
    }
    align_numbers(&mut table, 1..5);
    let mut lines = lines_of(&table);
    lines[0] = style.paint(Tone::Dim, &lines[0]);
    let mut text = lines.join("\n") + "\n";
    for line in processes(last).into_iter().chain(watching::remarks(last)) {
        text += &style.paint_lines(Tone::Dim, &wrap(&line, 80));
    }
    text + &style.paint_lines(Tone::Dim, &wrap(&note(gpu.readings.len()), 80))
}

fn note(count: usize) -> String {
    format!(
        "{} readings. `any kernel` is what NVIDIA calls GPU utilisation: the share of time in which something ran, \
         however little of the GPU that took.",
        wording::count(count)
    )
}

fn processes(reading: &Reading) -> Vec<String> {
    let line = |it: &crate::watch::ProcessReading| {
        let memory = it.memory.map_or_else(|| "memory not told".to_owned(), |bytes| bytes.to_string());
        let share = it.gpu_utilisation.map_or_else(String::new, |share| {
            format!(", a kernel of it ran {} of the time", wording::percent(share))
        });
        format!("process {}: {memory}{share}", it.process)
    };
    reading.processes.iter().take(MOST_LISTED).map(line).collect()
}

/// A reading in one line, for logs: names and values, without the GPU's name.
pub fn line_of_reading(reading: &Reading) -> String {
    let gauges = Gauge::ALL.iter().filter_map(|gauge| {
        let value = gauge.value(reading)?;
        Some(format!("{} {}", watching::gauge(*gauge), watching::gauge_value(*gauge, Some(value))))
    });
    gauges.chain(watching::remarks(reading)).collect::<Vec<_>>().join(", ")
}

/// A reading as bars, for a terminal that shows one after the other; lines of at most 80 columns.
pub fn bars_of_reading(name: &str, reading: &Reading, style: Style) -> String {
    let mut text = style.paint_lines(Tone::Bold, &wording::printable(name));
    for gauge in Gauge::ALL {
        let value = gauge.value(reading);
        let share = value.zip(gauge.limit(reading)).map(|(value, limit)| value / limit);
        let bar = share.map_or_else(|| " ".repeat(BAR), |share| bar(share, style));
        let line = format!("{:14} {bar} {:>11}", watching::gauge(gauge), watching::gauge_value(gauge, value));
        text += &(line + "\n");
    }
    for line in processes(reading).into_iter().chain(watching::remarks(reading)) {
        text += &style.paint_lines(Tone::Dim, &wrap(&line, 80));
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to BAR")]
fn bar(share: f64, style: Style) -> String {
    let filled = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let tone = if share > 0.9 { Tone::Warning } else { Tone::Good };
    style.paint(tone, &"█".repeat(filled)) + &style.paint(Tone::Dim, &"░".repeat(BAR - filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn the_verdict_comes_first_and_all_fits_80_columns() {
        let text = text_of_watched(&samples::watched(), Style::Plain);
        let verdict =
            "Pageable copies cost most: 15.2 ms of 39.5 ms (38.5 %); the GPU computed 25.3 %\nof the time.\n";
        assert!(text.starts_with(verdict), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let advice = "advice   copy from and to pinned memory, in PyTorch with pin_memory=True and\n";
        assert!(text.contains(advice), "{text}");
        let finding = text.lines().find(|line| line.starts_with("pageable copies of 200 MB")).unwrap();
        for part in ["4242", "cudaMemcpyAsync", "20", "15.2 ms", "38.5 %"] {
            assert!(finding.contains(part), "{finding}");
        }
        assert!(text.contains("SM activity") && text.contains("55.1 GB/s"), "{text}");
    }

    #[test]
    fn gauges_that_may_be_of_another_gpu_say_so() {
        let mut watched = samples::watched();
        watched.gpu_problem = watched.gpu.as_ref().and_then(|gpu| gpu.doubt(&[7]));
        let text = text_of_watched(&watched, Style::Plain);
        assert!(
            text.contains("SM activity") && text.contains("the gauges are of NVIDIA H100, GPU-1"),
            "{text}"
        );
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        let mut watched = samples::watched();
        watched.processes[0].program = "\u{1b}[2J".to_owned();
        watched.processes[0].findings[0].call = Some("\u{1b}[2J".to_owned());
        watched.processes[0].remarks.push("\u{1b}[2J".to_owned());
        assert!(!text_of_watched(&watched, Style::Plain).contains('\u{1b}'));
    }

    #[test]
    fn a_command_without_cuda_says_so_and_what_nvml_lacks() {
        let mut watched = samples::watched();
        watched.processes.clear();
        watched.gpu = None;
        watched.gpu_problem = Some("NVML is not there".to_owned());
        let text = text_of_watched(&watched, Style::Plain);
        assert_eq!(
            text,
            "No process of the command started CUDA.\nno gauges of the GPU: NVML is not there\n"
        );
    }

    #[test]
    fn bars_are_as_long_as_their_share_and_fit_80_columns() {
        let gpu = samples::watched().gpu.unwrap();
        let text = bars_of_reading(&gpu.name, &gpu.readings[0], Style::Plain);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert_eq!(line("SM activity").matches('█').count(), BAR / 4);
        assert_eq!(line("SM clock").matches('█').count(), BAR);
        assert!(line("busiest thread").ends_with("97.0 %"), "{text}");
        assert!(!line("tensor pipes").contains(['█', '░']), "a value that is missing has no bar");
        assert!(text.contains("clocks are held back: PowerCap"), "{text}");
    }

    #[test]
    fn a_reading_is_one_line_of_what_is_known() {
        let line = line_of_reading(&samples::watched().gpu.unwrap().readings[0]);
        assert!(line.starts_with("any kernel 100.0 %, SM activity 25.0 %, "), "{line}");
        assert!(!line.contains("tensor") && !line.contains('\n'), "{line}");
    }
}
