//! The binary `thalweg`: each command reads its arguments, calls the library, and shows what came out.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not to
//! be compared.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod connections;
mod injection;
mod output;
mod progress;
mod pulse;
mod values;

use std::process::ExitCode;

use clap::Parser as _;
use thalweg::Error;

use args::{Cli, Command};
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(&cli.output);
    connections::raise_if_needed(&cli.command, &output);
    match run(cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            exit_code(&error)
        }
    }
}

fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Doctor(args) => commands::doctor::run(&args, output),
        Command::Inspect(args) => commands::inspect::run(&args, output),
        Command::Model(args) => commands::model::run(&args, output),
        Command::Convert(args) => commands::convert::run(&args, output),
        Command::Inputs(args) => commands::inputs::run(&args, output),
        Command::Build(args) => commands::build::run(&args, output),
        Command::Accuracy(args) => commands::accuracy::run(&args, output),
        Command::Bench(args) => commands::bench::run(&args, output),
        Command::Diagnose(args) => commands::diagnose::run(&args, output),
        Command::Tune(args) => commands::tune::run(&args, output),
        Command::Predict(args) => commands::predict::run(&args, output),
        Command::Compare(args) => commands::compare::run(&args, output),
        Command::Export(args) => commands::export::run(&args, output),
        Command::Watch(args) => commands::watch::run(&args, output),
        Command::Top(args) => commands::top::run(&args, output),
        Command::Report(args) => commands::report::run(&args, output),
        Command::Completions { shell } => commands::print_completions(shell),
        Command::Man => commands::print_manual(),
    }
}

/// 2 where the command line itself cannot be obeyed, 3 where two results must not be compared, 130 where the user ended
/// it, 1 for everything else that went wrong.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<commands::compare::Refusal>() {
        return ExitCode::from(3);
    }
    match error.downcast_ref::<Error>() {
        Some(Error::BuildStopped) => ExitCode::from(progress::INTERRUPTED),
        Some(
            Error::InvalidSetting { .. }
            | Error::UnknownTensor { .. }
            | Error::OpenDimension { .. }
            | Error::ShapeMismatch { .. }
            | Error::DataTypeMismatch { .. },
        ) => ExitCode::from(2),
        _ => ExitCode::from(1),
    }
}
