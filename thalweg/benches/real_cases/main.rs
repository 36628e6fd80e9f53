//! The real cases of the labelled suite: finding out by ablation what is true of each, and judging the rules by it.
//!
//! `cargo bench -p thalweg --bench real_cases -- --backend tensorrt --engines DIR --labels FILE --json FILE` runs the
//! cases of `suite/real.json` on engines `DIR/<network>-<precision>.plan`. First every case is measured in turns with
//! one thing after the other moved out of its way, and the labels are written down; no rule is asked for that. Then each
//! case is diagnosed, its first remedy tried, and what was said is compared. The program can be carried to a GPU as it is;
//! `scripts/gpu/diagnosis.py` builds the engines and reads the result. With `--backend simulated:h100` or `cpu` it runs
//! everywhere, to see that it runs.
//!
//! `--only TEXT` runs the cases whose name has it, `--part 1/2` the first half, `--deadline S` labels no case after
//! 60 % of so many seconds and judges none after them. Step `label` or `judge` alone does that step; `judge` takes the
//! labels from the file.

#[path = "../../tests/verdicts/mod.rs"]
mod verdicts;

mod case;
mod label;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use case::{Case, suite_path};
use label::Labelled;
use serde::Serialize;
use thalweg::backend::{self, Backend, Precision, Surroundings};
use thalweg::capacity::PaperWorkload;
use thalweg::diagnose::{self, Confidence, LimitReading, Verdict, diagnose, trtexec_verdict};
use thalweg::engine::{MaxBatch, StoredEngine};
use thalweg::measure::{Estimate, Observing, Pacing, StopSignal, Workload, WorkloadSpec};
use thalweg::model::zoo::Network;
use thalweg::model::{DataType, Model};
use verdicts::{Gain, Judged, print_gains, print_scores};

/// Samples that an engine which is built here runs at most, as a multiple of the largest batch of its cases.
const ROOM: usize = 4;

/// Part of the time that may go into labels: what is left is for the rules.
const LABELLING: f64 = 0.6;

/// Windows of a slice in which a case is measured before anything is judged: GPM's counters change every 100 ms, and power is
/// unknown of less than half a second. `thalweg diagnose` takes longer. Trials take turns of a window each.
const WINDOWS: usize = 5;

/// Rounds in which a remedy and its baseline take turns: the fewest that give a ratio.
const ROUNDS: usize = 3;

fn main() {
    let options = Options::parse();
    let cases = options.cases();
    let backend = backend::open(&options.backend, &Surroundings::default()).expect("the backend");
    let mut bench = Bench { options: &options, backend: backend.as_ref(), start: Instant::now() };
    let workloads = bench.workloads(&cases);
    let labels = if options.does("label") {
        let labels = bench.label(&cases, &workloads);
        options.write(options.labels.as_ref(), &labels);
        labels
    } else {
        options.read_labels()
    };
    if options.does("judge") {
        let said = bench.judge(&labels, &workloads);
        options.write(options.json.as_ref(), &Outcome::of(&said, backend.device().name.clone()));
    }
}

/// What was asked for.
struct Options {
    steps: Vec<String>,
    backend: String,
    engines: PathBuf,
    suite: PathBuf,
    labels: Option<PathBuf>,
    json: Option<PathBuf>,
    only: String,
    /// Which part of how many.
    part: (usize, usize),
    rounds: usize,
    slice: Duration,
    deadline: Duration,
}

impl Options {
    fn parse() -> Self {
        let mut named: BTreeMap<String, String> = BTreeMap::new();
        let mut steps = Vec::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                // Cargo says this to every benchmark.
                Some("bench") => {}
                Some(name) => drop(named.insert(name.to_owned(), words.next().expect("a value"))),
                None => steps.push(word),
            }
        }
        let number = |name: &str, default: f64| {
            named.get(name).map_or(default, |text| text.parse().expect("a number"))
        };
        let path = |name: &str| named.get(name).map(PathBuf::from);
        let part = named.get("part").map_or((1, 1), |text| {
            let (part, of) = text.split_once('/').expect("a part such as 1/2");
            (part.parse().expect("a number"), of.parse().expect("a number"))
        });
        Self {
            steps,
            backend: named.get("backend").cloned().unwrap_or_else(|| "tensorrt".to_owned()),
            engines: path("engines").unwrap_or_default(),
            suite: path("suite").unwrap_or_else(suite_path),
            labels: path("labels"),
            json: path("json"),
            only: named.get("only").cloned().unwrap_or_default(),
            part,
            rounds: named.get("rounds").map_or(2, |text| text.parse().expect("a number")),
            slice: Duration::from_secs_f64(number("slice", 0.2)),
            deadline: Duration::from_secs_f64(number("deadline", 1e6)),
        }
    }

    fn does(&self, step: &str) -> bool {
        self.steps.is_empty() || self.steps.iter().any(|it| it == step)
    }

    fn cases(&self) -> Vec<Case> {
        let text = std::fs::read_to_string(&self.suite).expect("the suite's file");
        let mut cases: Vec<Case> = serde_json::from_str(&text).expect("the suite's file is a list of cases");
        cases.retain(|case| case.name().contains(&self.only));
        let (part, of) = self.part;
        let range = cases.len() * (part - 1) / of..cases.len() * part / of;
        cases[range].to_vec()
    }

    fn read_labels(&self) -> Vec<Labelled> {
        let path = self.labels.as_ref().expect("--labels FILE, where `label` has written them");
        let text = std::fs::read_to_string(path).expect("the labels' file");
        let mut labels: Vec<Labelled> = serde_json::from_str(&text).expect("a list of labels");
        labels.retain(|label| label.case.name().contains(&self.only));
        labels
    }

    fn write(&self, path: Option<&PathBuf>, value: &impl Serialize) {
        let Some(path) = path else { return };
        let text = serde_json::to_string_pretty(value).expect("plain data");
        std::fs::write(path, text).expect("the result's file");
    }
}

/// A network on the device, with what it costs on paper at batch 1.
struct Loaded {
    workload: Workload,
    /// `None` where its weights take longer to write than its cases to measure.
    model: Option<Model>,
    precision: Precision,
}

impl Loaded {
    fn paper(&self, batch: usize) -> Option<PaperWorkload> {
        let model = self.model.as_ref()?;
        PaperWorkload::of(model, &BTreeMap::new(), batch, (DataType::F32, self.precision)).ok()
    }
}

struct Bench<'a> {
    options: &'a Options,
    backend: &'a dyn Backend,
    start: Instant,
}

impl Bench<'_> {
    /// Whether this part of the time is over.
    fn is_late(&self, share: f64) -> bool {
        self.start.elapsed() > self.options.deadline.mul_f64(share)
    }

    /// One for each engine; those that cannot be had are named, and their cases left out.
    fn workloads(&self, cases: &[Case]) -> BTreeMap<String, Loaded> {
        let mut workloads = BTreeMap::new();
        for case in cases {
            if workloads.contains_key(&case.engine()) {
                continue;
            }
            let of_engine = cases.iter().filter(|it| it.engine() == case.engine());
            let largest = of_engine.map(|it| it.batch).max().unwrap_or(1);
            let began = Instant::now();
            match self.load(case, largest) {
                Ok(loaded) => {
                    eprintln!("{}: loaded in {:.1} s", case.engine(), began.elapsed().as_secs_f64());
                    workloads.insert(case.engine(), loaded);
                }
                Err(error) => eprintln!("{}: {error}", case.engine()),
            }
        }
        workloads
    }

    fn load(&self, case: &Case, largest: usize) -> thalweg::Result<Loaded> {
        let is_built_here = self.backend.build_identity().is_none();
        let spec = WorkloadSpec { max_batch: MaxBatch::UpTo(ROOM * largest), ..WorkloadSpec::default() };
        let is_quick = is_built_here || case.network != Network::BertBase;
        let write = || Model::from_proto(case.network.generate(0), format!("{}.onnx", case.network));
        let model = is_quick.then(write).transpose()?;
        let workload = match &model {
            Some(model) if is_built_here => Workload::prepare(self.backend, model, &spec)?,
            _ => {
                let path = self.options.engines.join(format!("{}.plan", case.engine()));
                Workload::of_engine(self.backend, &StoredEngine::read(&path)?, &path, &spec)?
            }
        };
        Ok(Loaded { workload, model, precision: case.precision })
    }

    /// Labels every case; writes them down after each, so that nothing is lost.
    fn label(&mut self, cases: &[Case], workloads: &BTreeMap<String, Loaded>) -> Vec<Labelled> {
        let mut labels = Vec::new();
        for case in cases {
            let Some(loaded) = workloads.get(&case.engine()) else { continue };
            if self.is_late(LABELLING) {
                eprintln!("no time for {}", case.name());
                continue;
            }
            let began = Instant::now();
            let paper = loaded.paper(case.batch);
            let pace = label::Pace { rounds: self.options.rounds, slice: self.options.slice };
            match Labelled::by_ablation(case, &loaded.workload, paper.as_ref(), pace) {
                Ok(labelled) => {
                    let seconds = began.elapsed().as_secs_f64();
                    println!("{:46} {:22} {seconds:4.1} s {}", case.name(), labelled.label, labelled.line());
                    labels.push(labelled);
                    self.options.write(self.options.labels.as_ref(), &labels);
                }
                Err(error) => eprintln!("{}: {error}", case.name()),
            }
        }
        labels
    }

    /// Asks the rules.
    fn judge(&self, labels: &[Labelled], workloads: &BTreeMap<String, Loaded>) -> Vec<Said> {
        let mut said = Vec::new();
        for labelled in labels {
            let case = &labelled.case;
            let Some(loaded) = workloads.get(&case.engine()) else { continue };
            if self.is_late(1.0) {
                eprintln!("no time to judge {}", case.name());
                continue;
            }
            match self.diagnose(labelled, loaded) {
                Ok(one) => {
                    println!("{}", one.line());
                    said.push(one);
                }
                Err(error) => eprintln!("{}: {error}", case.name()),
            }
        }
        said
    }

    fn diagnose(&self, labelled: &Labelled, loaded: &Loaded) -> thalweg::Result<Said> {
        let began = Instant::now();
        let setup = labelled.case.setup(&loaded.workload);
        let paper = loaded.paper(labelled.case.batch);
        let case = diagnose::Case {
            workload: &loaded.workload,
            setup,
            pacing: Pacing {
                warm_up: self.options.slice / 2,
                window: self.options.slice,
                max_windows: WINDOWS,
                longest: None,
            },
            tries: 1,
            rounds: ROUNDS,
            seed: 0,
            model: paper.as_ref().ok_or("its weights take too long to write"),
            // CUPTI stays in the process, and may cost the cases behind this one something.
            recording: Observing::Off,
            rebuild: Err("nobody builds other engines here"),
        };
        let diagnosis = diagnose(&case, &StopSignal::default(), &mut |_| {})?;
        let tried = diagnosis.remedies.iter().find_map(|it| Some((it, it.ratio()?)));
        Ok(Said {
            name: labelled.case.name(),
            is_tuned_on: labelled.is_tuned_on,
            label: labelled.label,
            right: labelled.right.clone(),
            expected: labelled.case.expected,
            verdict: diagnosis.judgement.verdict,
            confidence: diagnosis.judgement.confidence,
            trtexec: trtexec_verdict(&diagnosis.evidence),
            remedy: tried.map(|(it, ratio)| Remedy {
                what: it.to_string(),
                predicted: it.predicted.value,
                measured: ratio.value,
            }),
            observing: diagnosis.observing,
            limits: diagnosis.judgement.limits.clone(),
            findings: diagnosis.judgement.findings.clone(),
            evidence: diagnosis.evidence,
            seconds: began.elapsed().as_secs_f64(),
        })
    }
}

/// The first remedy, tried.
#[derive(Clone, Serialize)]
struct Remedy {
    what: String,
    predicted: f64,
    measured: f64,
}

/// What the rules said of a case, beside its label.
#[derive(Clone, Serialize)]
struct Said {
    name: String,
    is_tuned_on: bool,
    label: Verdict,
    right: Vec<Verdict>,
    expected: Verdict,
    verdict: Verdict,
    confidence: Confidence,
    trtexec: Option<Verdict>,
    remedy: Option<Remedy>,
    observing: Option<Estimate>,
    limits: Vec<LimitReading>,
    findings: Vec<String>,
    evidence: diagnose::Evidence,
    seconds: f64,
}

impl Said {
    fn line(&self) -> String {
        let mark = if self.right.contains(&self.verdict) { "right" } else { "WRONG" };
        let gains = self.remedy.as_ref().map_or_else(String::new, |it| {
            format!("{}: predicted {:.2}, measured {:.2}", it.what, it.predicted, it.measured)
        });
        format!(
            "{mark} {:46} {:22} {:22} {:4.1} s {gains}",
            self.name, self.label, self.verdict, self.seconds
        )
    }
}

/// Everything that the script checks.
#[derive(Serialize)]
struct Outcome {
    device: String,
    cases: Vec<Said>,
    /// Share of right verdicts, and the same of the cases that were only evaluated.
    right: f64,
    right_of_evaluated: f64,
    /// Share of first remedies whose gain was predicted within max(0.05, 15 %).
    predicted: f64,
    /// Throughput with counters over without, over the cases, with its 95 % interval. By ranks: a case whose pace differs
    /// from pool to pool counts no more than another.
    observing: Option<Estimate>,
}

impl Outcome {
    fn of(said: &[Said], device: String) -> Self {
        let judged: Vec<Judged> = said
            .iter()
            .map(|it| Judged {
                is_tuned_on: it.is_tuned_on,
                label: it.label,
                right: it.right.clone(),
                verdict: it.verdict,
                trtexec: it.trtexec,
            })
            .collect();
        let (right, right_of_evaluated) = print_scores(&judged);
        let gains: Vec<Gain> = said
            .iter()
            .filter_map(|it| {
                let Remedy { predicted, measured, .. } = *it.remedy.as_ref()?;
                Some(Gain { is_tuned_on: it.is_tuned_on, predicted, measured })
            })
            .collect();
        let predicted = print_gains(&gains);
        let expected = said.iter().filter(|it| it.right.contains(&it.expected)).count();
        println!("\nexpected when the cases were written down: {expected} of {} right", said.len());
        let ratios: Vec<(f64, f64)> = said.iter().filter_map(|it| Some((it.observing?.value, 1.0))).collect();
        let observing = thalweg::measure::stats::paired_ratio_by_ranks(&ratios);
        if let Some(Estimate { value, lower, upper }) = observing {
            println!(
                "with counters read it runs {value:.4} times ({lower:.4} to {upper:.4}) as fast as without"
            );
        }
        Self { device, cases: said.to_vec(), right, right_of_evaluated, predicted, observing }
    }
}
