//! What a value on the command line has to look like, and what is said where it does not.
//!
//! In: the text behind an option. Out: the value, or why it is none, as the rest of clap's sentence.

use std::fmt;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use thalweg::backend::{
    CounterChoice, CudaGraph, DataSheet, PlantedFault, Precision, TacticSource, TimesTaken, Transfers, Wait,
};
use thalweg::export::Format;
use thalweg::measure::{Feeding, ObjectionKind};
use thalweg::model::DataType;
use thalweg::model::zoo::Network;
use thalweg::precision::{CalibrationMethod, HalfType};
use thalweg::units::Nanos;

use crate::args::{Rest, Target};

/// A list of values for one knob, or the tuner's own choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counts {
    Auto,
    These(Vec<usize>),
}

/// A list of counts, or `auto`.
pub fn parse_counts(text: &str) -> Result<Counts, String> {
    if text == "auto" {
        return Ok(Counts::Auto);
    }
    let counts = text.split(',').map(|count| {
        parse_count(count.trim())
            .map_err(|error| format!("`{count}` is {error}; give a list like 1,2,4, or auto"))
    });
    counts.collect::<Result<_, _>>().map(Counts::These)
}

/// Copy lanes that streams share; `None` for each stream's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyLanes(pub Option<usize>);

/// A count of copy lanes, or `own`.
pub fn parse_copy_lanes(text: &str) -> Result<CopyLanes, String> {
    if text == "own" {
        return Ok(CopyLanes(None));
    }
    let lanes = parse_count(text).map_err(|_| "give own, or a count above 0".to_owned())?;
    Ok(CopyLanes(Some(lanes)))
}

/// The batches of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRange {
    pub least: usize,
    pub most: usize,
}

impl fmt::Display for BatchRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { least, most } if least == most => write!(f, "{most}"),
            Self { least, most } => write!(f, "{least}-{most}"),
        }
    }
}

/// One batch, or the least and the most.
pub fn parse_batch_range(text: &str) -> Result<BatchRange, String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let ends = parse_count(least).and_then(|least| Ok(BatchRange { least, most: parse_count(most)? }));
    let range = ends.ok().filter(|range| range.least <= range.most);
    range.ok_or_else(|| "not a batch, nor a range of them such as 5-8".to_owned())
}

/// A device with a data sheet.
pub fn parse_device(text: &str) -> Result<DataSheet, String> {
    let known = || DataSheet::all().iter().map(|sheet| sheet.key).collect::<Vec<_>>().join(", ");
    DataSheet::of(text).ok_or_else(|| format!("the devices are {}", known()))
}

/// A type that inputs are copied in.
pub fn parse_input_type(text: &str) -> Result<DataType, String> {
    match text {
        "f32" => Ok(DataType::F32),
        "f16" => Ok(DataType::F16),
        "u8" => Ok(DataType::U8),
        _ => Err("the types are f32, f16 and u8".to_owned()),
    }
}

/// A source of kernels with `+` or `-` in front.
pub fn parse_tactics(text: &str) -> Result<(TacticSource, bool), String> {
    let sources = || TacticSource::ALL.iter();
    let wrong = || {
        let known: Vec<_> = sources().map(ToString::to_string).collect();
        format!("+ or - in front of one of {}", known.join(", "))
    };
    let (is_used, name) = match text.split_at_checked(1) {
        Some(("+", name)) => (true, name),
        Some(("-", name)) => (false, name),
        _ => return Err(wrong()),
    };
    sources().find(|source| source.to_string() == name).map(|source| (*source, is_used)).ok_or_else(wrong)
}

/// Most requests outstanding that are kept account of: no pool has room for a thousandth of them.
const MOST_OUTSTANDING: usize = 1 << 24;

/// As [`parse_count`], of requests outstanding.
pub fn parse_outstanding(text: &str) -> Result<usize, String> {
    let count = parse_count(text)?;
    if count > MOST_OUTSTANDING { Err(format!("more than {MOST_OUTSTANDING}")) } else { Ok(count) }
}

/// A whole number above 0, of what nobody has more than 4,294,967,295 of.
pub fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse::<u64>().ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| "not a whole number above 0".to_owned())?;
    match u32::try_from(count) {
        Ok(count) => Ok(count as usize),
        Err(_) => Err(format!("more than {}", u32::MAX)),
    }
}

/// A number above 0.
pub fn parse_positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "not a number above 0".to_owned())
}

/// Milliseconds, 0 or more.
pub fn parse_delay(text: &str) -> Result<f64, String> {
    let delay = text.parse().ok().filter(|delay: &f64| delay.is_finite() && *delay >= 0.0);
    delay.ok_or_else(|| "not a number of milliseconds, 0 or more".to_owned())
}

/// How inputs are fed: a number of copying threads, or `resident`.
pub fn parse_feeding(text: &str) -> Result<Feeding, String> {
    match text.parse() {
        Ok(threads @ 1..) => Ok(Feeding::Copy { threads }),
        _ if text == "resident" => Ok(Feeding::Resident),
        _ => Err("a number of threads, or resident".to_owned()),
    }
}

/// The name of an input and its whole shape.
pub fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let wrong = || format!("`{text}` is not of the form name=1x3x224x224");
    let (name, shape) = text.rsplit_once('=').ok_or_else(wrong)?;
    let sizes = shape.split('x').map(|size| size.parse().ok().filter(|size| *size > 0));
    let sizes: Option<Vec<usize>> = if shape.is_empty() { Some(Vec::new()) } else { sizes.collect() };
    Ok((name.to_owned(), sizes.ok_or_else(wrong)?))
}

/// Seconds, 0 or more.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "not a possible number of seconds".to_owned())
}

/// Seconds in which something has to be done.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    match parse_seconds(text)? {
        Duration::ZERO => Err("not a number of seconds above 0".to_owned()),
        span => Ok(span),
    }
}

/// One of the precisions by its name.
pub fn precision_parser() -> impl TypedValueParser<Value = Precision> {
    named(["fp32", "fp16", "bf16", "int8"], Precision::ALL)
}

/// What can become of the nodes that eight bits leave, by its name.
pub fn rest_parser() -> impl TypedValueParser<Value = Rest> {
    let [fp16, bf16] = HalfType::ALL.map(Rest::Half);
    named(["fp32", "fp16", "bf16"], [Rest::Fp32, fp16, bf16])
}

/// What a model can be converted to, by its name.
pub fn target_parser() -> impl TypedValueParser<Value = Target> {
    let [fp16, bf16] = HalfType::ALL.map(Target::Half);
    named(["fp32", "fp16", "bf16", "int8", "auto"], [Target::Fp32, fp16, bf16, Target::Int8, Target::Auto])
}

/// How thresholds are chosen, by its name.
pub fn method_parser() -> impl TypedValueParser<Value = CalibrationMethod> {
    named(["entropy", "minmax", "percentile", "mse"], CalibrationMethod::ALL)
}

/// What is replayed as a CUDA graph, by its name.
pub fn graph_parser() -> impl TypedValueParser<Value = CudaGraph> {
    named(["off", "compute", "copies"], CudaGraph::ALL)
}

/// How submitters wait, by its name.
pub fn wait_parser() -> impl TypedValueParser<Value = Wait> {
    named(["block", "spin", "hybrid"], Wait::ALL)
}

/// Where counters come from, by its name.
pub fn counters_parser() -> impl TypedValueParser<Value = CounterChoice> {
    named(["auto", "gpm", "pm", "off"], CounterChoice::ALL)
}

/// Whether executions copy.
pub fn transfers_parser() -> impl TypedValueParser<Value = Transfers> {
    named(["on", "off"], Transfers::ALL)
}

/// Of which executions stage times are taken.
pub fn stage_times_parser() -> impl TypedValueParser<Value = TimesTaken> {
    named(["each", "some"], TimesTaken::ALL)
}

/// A fault to plant, for tests of the diagnosis.
pub fn parse_fault(text: &str) -> Result<PlantedFault, String> {
    let known = [PlantedFault::PageableMemory, PlantedFault::DefaultStream, PlantedFault::WaitPerItem];
    let slow_feed = || {
        let time = parse_positive(text.strip_prefix("slow-feed=")?).ok()?;
        Some(PlantedFault::SlowFeed(Nanos::from_seconds(time / 1e3)))
    };
    let fault = known.into_iter().find(|fault| fault.to_string() == text).or_else(slow_feed);
    fault.ok_or_else(|| "the faults are pageable, default-stream, wait-per-item and slow-feed=MS".to_owned())
}

/// What a tuned configuration is exported for, by its name.
pub fn format_parser() -> impl TypedValueParser<Value = Format> {
    named(["triton", "trtexec", "cpp"], Format::ALL)
}

/// A kind of objection against a comparison, by its name.
pub fn objection_parser() -> impl TypedValueParser<Value = ObjectionKind> {
    let names = ["device", "model", "versions", "clocks", "load", "unsteady", "incomplete"];
    named(names, ObjectionKind::ALL)
}

/// One of these values, by the name that it prints.
fn named<T, const N: usize>(names: [&'static str; N], all: [T; N]) -> impl TypedValueParser<Value = T>
where
    T: Copy + std::fmt::Display + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).map(move |name| {
        let value = all.iter().find(|value| value.to_string() == name);
        *value.expect("bug: the parser let another name through")
    })
}

/// A network of the zoo by its name.
pub fn network_parser() -> impl TypedValueParser<Value = Network> {
    let names = Network::ALL.map(|network| PossibleValue::new(network.name()).help(network.description()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Network>())
}
