//! `thalweg diagnose`: what limits one configuration, and whether what should help does.

use std::env;

use thalweg::diagnose::{Case, Diagnosis, Progress, Setup};
use thalweg::engine::MaxBatch;
use thalweg::files::OutputFolder;
use thalweg::measure::Feeding;
use thalweg::model::ModelIdentity;
use thalweg::pool::Configuration;
use thalweg::report;

use super::bench::{Bench, pacing};
use super::file;
use crate::args::DiagnoseArgs;
use crate::output::Output;
use crate::progress::{Bar, Interrupts};

/// Samples per execution that remedies ask for, as a multiple of what runs now.
const ROOM: usize = 4;

pub fn run(args: &DiagnoseArgs, output: &Output) -> anyhow::Result<()> {
    let folder = args.out.as_deref().map(OutputFolder::claim).transpose()?;
    let interrupts = Interrupts::catch()?;
    let bench = Bench::open(&args.run, output)?;
    let batch = bench.configuration.batch_size;
    // An engine's kernels are chosen for its largest batch, so where building takes time it is built for this one.
    let is_quick = bench.backend.build_identity().is_none();
    let max_batch = if is_quick { MaxBatch::UpTo(ROOM * batch) } else { MaxBatch::Exactly(batch) };
    let workload = bench.prepare(max_batch, &interrupts, output)?;
    let larger = |batch: usize| {
        bench.prepare(MaxBatch::Exactly(batch), &interrupts, output).map_err(|error| format!("{error:#}"))
    };
    let case = Case {
        workload: &workload,
        setup: Setup { configuration: bench.configuration, feeding: workload.feeding, load: bench.load() },
        pacing: pacing(&args.run),
        tries: args.tries,
        seed: args.run.workload.seed,
        larger: (!is_quick && !bench.is_engine()).then_some(&larger),
    };
    let bar = Bar::spin(format!("measuring {}", bench.configuration), output);
    let diagnosis = thalweg::diagnose::diagnose(&case, &interrupts.stop, &mut |progress| {
        bar.say(&sentence(&progress));
    });
    bar.clear();
    show(&diagnosis?, args, folder.as_ref(), output)
}

fn sentence(progress: &Progress<'_>) -> String {
    match progress {
        Progress::Measuring(setup) => format!("measuring {}", setup.configuration),
        Progress::Probing(setup) => format!("probing how full the device is: {}", setup.configuration),
        Progress::Trying(setup) => format!("trying {}", setup.configuration),
    }
}

fn show(
    diagnosis: &Diagnosis,
    args: &DiagnoseArgs,
    folder: Option<&OutputFolder>,
    output: &Output,
) -> anyhow::Result<()> {
    if let Some(folder) = folder {
        folder.write(file::DIAGNOSIS, &serde_json::to_vec(diagnosis)?)?;
        folder.write(file::REPORT, report::html_of_diagnosis(diagnosis)?.as_bytes())?;
        output.written(folder.path(), &[file::DIAGNOSIS, file::REPORT]);
    }
    output.result(|| serde_json::to_value(diagnosis), |style| report::text_of_diagnosis(diagnosis, style))?;
    if let Some(gained) = &diagnosis.gained {
        let model = args.run.tuned.as_ref().map(|_| &diagnosis.measurement.model);
        output.note(&format!("next: {}", bench_command(env::args().skip(1), model, &gained.setup)));
    }
    Ok(())
}

/// Options of `diagnose` that a setup replaces, or that `bench` does not have. All take a value.
const REPLACED: [&str; 13] = [
    "--streams",
    "--batch",
    "--depth",
    "--submitters",
    "--threads-per-stream",
    "--cuda-graph",
    "--feed",
    "--concurrency",
    "--rate",
    "--spacing",
    "--request-samples",
    "--tuned",
    "--try",
];

/// The command that runs a setup: the words of this one, with the setup's options instead of their own. A model that
/// was named by a tuned configuration is named itself.
fn bench_command(
    words: impl Iterator<Item = String>,
    model: Option<&ModelIdentity>,
    setup: &Setup,
) -> String {
    let mut kept = Vec::new();
    let mut words = words.filter(|word| !matches!(word.as_str(), "diagnose" | "--json" | "--quiet" | "-q"));
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some((name, _)) if REPLACED.contains(&name) || name == "--out" => {}
            None if REPLACED.contains(&word.as_str()) || word == "--out" => drop(words.next()),
            _ => kept.push(quoted(&word)),
        }
    }
    if let Some(model) = model {
        kept.insert(0, quoted(&model.path.display().to_string()));
        for (name, shape) in &model.input_shapes {
            let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
            kept.push(quoted(&format!("--shape={name}={}", sizes.join("x"))));
        }
    }
    format!("thalweg bench {}{}", kept.join(" "), options(setup))
}

fn options(setup: &Setup) -> String {
    let Setup { configuration, feeding, load } = setup;
    let default = Configuration::default();
    let mut text = format!(" --streams {} --batch {}", configuration.streams, configuration.batch_size);
    let counts = [
        ("depth", configuration.depth, default.depth),
        ("submitters", configuration.submitters, default.submitters),
        ("threads-per-stream", configuration.threads_per_stream, default.threads_per_stream),
        ("request-samples", load.samples_per_request, configuration.batch_size),
    ];
    for (name, count, default) in counts {
        if count != default {
            text += &format!(" --{name} {count}");
        }
    }
    if configuration.cuda_graph != default.cuda_graph {
        text += &format!(" --cuda-graph {}", configuration.cuda_graph);
    }
    if let Feeding::Copy { threads } = feeding {
        text += &format!(" --feed {threads}");
    }
    text
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=,+-".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
