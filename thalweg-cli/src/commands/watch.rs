//! `thalweg watch`: somebody else's program, from its start by CUPTI, or while it runs by NVML.

use std::io::{self, IsTerminal as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use thalweg::backend::Surroundings;
use thalweg::files::OutputFolder;
use thalweg::measure::StopSignal;
use thalweg::report;
use thalweg::units::Nanos;
use thalweg::watch::{Gauges, GpuReadings, Program, Settings, Watched, Watcher, observe, read_folder};

use super::{file, site_packages};
use crate::args::WatchArgs;
use crate::injection::{GraphKernels, Injection};
use crate::output::Output;
use crate::progress::Interrupts;

/// How often it is asked whether a watched process is to be left alone.
const ATTENTION: Duration = Duration::from_millis(50);

/// How often it is asked whether a command has ended: its time is not known better than this.
const LOOK: Duration = Duration::from_millis(5);

/// On a terminal Ctrl-C reaches the command as well as us. It is told by us only where it has not ended after so long: a
/// second signal may cut short what it does about the first.
const TERMINAL_PATIENCE: Duration = Duration::from_secs(5);

pub fn run(args: &WatchArgs, output: &Output) -> anyhow::Result<()> {
    match args.pid {
        Some(process) => watch_process(process, args, output),
        None => watch_command(args, output),
    }
}

fn watch_process(process: u32, args: &WatchArgs, output: &Output) -> anyhow::Result<()> {
    let gauges = Gauges::open_for(process, &surroundings(args))?;
    let interrupts = Interrupts::catch()?;
    let gpu = read_for(args.duration, gauges, args.period, &interrupts.stop)?;
    output.result(|| Ok(json!({ "process": process, "gpu": gpu })), |style| report::text_of_gpu(&gpu, style))
}

fn surroundings(args: &WatchArgs) -> Surroundings {
    Surroundings { device: args.device.clone(), ..Surroundings::default() }
}

fn read_for(
    duration: Duration,
    gauges: Gauges,
    period: Duration,
    stop: &StopSignal,
) -> anyhow::Result<GpuReadings> {
    let watcher = Watcher::start(gauges, period)?;
    let start = Instant::now();
    while start.elapsed() < duration && !stop.is_requested() {
        thread::sleep(ATTENTION.min(duration));
    }
    Ok(watcher.stop())
}

fn watch_command(args: &WatchArgs, output: &Output) -> anyhow::Result<()> {
    let folder = args.out.as_deref().map(OutputFolder::claim).transpose()?;
    let injection = Injection::prepare()?;
    // Whoever interrupts the command wants to see what it did until then.
    let interrupts = Interrupts::catch()?;
    let watcher = Gauges::open(&surroundings(args)).and_then(|gauges| Watcher::start(gauges, args.period));
    let start = Instant::now();
    let status = command(args, &injection).spawn().and_then(|child| end_of(child, &interrupts.stop));
    let wall = Nanos::from_duration(start.elapsed());
    let (gpu, mut gpu_problem) = match watcher {
        Ok(watcher) => (Some(watcher.stop()), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let words: Vec<_> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let status = status.with_context(|| format!("cannot start {}", words[0]))?;
    let programs = read_folder(injection.folder())?;
    let settings = Settings {
        warm_up: Nanos::from_duration(args.warm_up),
        pinned_bytes_per_s: gpu.as_ref().and_then(|gpu| gpu.readings.last()?.pcie_limit_bytes_per_s),
    };
    if let Some(gpu) = gpu.as_ref().filter(|_| args.device.is_none()) {
        gpu_problem = gpu.doubt(&programs.iter().map(|program| program.process).collect::<Vec<_>>());
    }
    let processes = programs.iter().map(|program| observe(program, &settings)).collect();
    let watched = Watched { command: words, exit_code: status.code(), wall, processes, gpu, gpu_problem };
    show(&watched, programs.first(), folder.as_ref(), output)?;
    let code = status.code().map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    ensure!(status.success(), "the command ended with {code}");
    Ok(())
}

/// Waits for the end of a command. Where we are asked to end, it is asked too, once: whoever ends us, as a service
/// manager does, may know nothing of it.
fn end_of(mut child: Child, stop: &StopSignal) -> io::Result<ExitStatus> {
    let patience = if io::stdin().is_terminal() { TERMINAL_PATIENCE } else { Duration::ZERO };
    let (mut asked, mut is_told) = (None, false);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.is_requested() && !is_told && asked.get_or_insert_with(Instant::now).elapsed() >= patience {
            // It was not waited for, so its number is still its own. Where it may not be told, it ends by itself.
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            is_told = true;
        }
        thread::sleep(LOOK);
    }
}

/// What the command prints is not our result, so all of it goes where remarks go.
fn command(args: &WatchArgs, injection: &Injection) -> Command {
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]).stdout(Stdio::from(io::stderr()));
    let graphs = if args.graph_kernels { GraphKernels::Recorded } else { GraphKernels::AsAWhole };
    injection.apply(&mut command, &site_packages(), graphs);
    command
}

fn show(
    watched: &Watched,
    program: Option<&Program>,
    folder: Option<&OutputFolder>,
    output: &Output,
) -> anyhow::Result<()> {
    if let Some(folder) = folder {
        let mut written = vec![file::WATCHED];
        folder.write(file::WATCHED, &serde_json::to_vec(watched)?)?;
        // A file of an earlier run would pass for this one's.
        match report::html_of_watched(watched, program)? {
            Some(page) => {
                folder.write(file::REPORT, page.as_bytes())?;
                written.push(file::REPORT);
            }
            None => folder.remove(file::REPORT)?,
        }
        match program {
            Some(program) => {
                let trace = report::trace_of_program(program, watched.gpu.as_ref());
                folder.write(file::TRACE, trace.as_bytes())?;
                written.push(file::TRACE);
            }
            None => folder.remove(file::TRACE)?,
        }
        output.written(folder.path(), &written);
    }
    output.result(|| serde_json::to_value(watched), |style| report::text_of_watched(watched, style))
}
