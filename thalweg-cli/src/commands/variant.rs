//! The engines that a command line asks for: one, or for `tune` each combination of what it lists.

use anyhow::bail;
use thalweg::backend::{BuildOptions, Precision};
use thalweg::engine::MaxBatch;

use crate::args::{BuilderArgs, Target};
use crate::values::BatchRange;

/// What may differ between the engines of one command line.
#[derive(Clone, Debug)]
pub struct Variant {
    pub target: Target,
    optimization_level: Option<u8>,
    aux_streams: Option<u8>,
    pub batch_range: Option<BatchRange>,
    /// What tells it from the others: `fp16, level 5`.
    pub name: String,
}

impl Variant {
    /// The only one.
    ///
    /// # Errors
    /// Where there are several.
    pub fn only(args: &BuilderArgs) -> anyhow::Result<Self> {
        let lists = [
            ("precisions", "--precision", args.precision.len()),
            ("optimization levels", "--optimization-level", args.optimization_level.len()),
            ("numbers of auxiliary streams", "--aux-streams", args.aux_streams.len()),
            ("batch ranges", "--batch-range", args.batch_range.len()),
        ];
        if let Some((values, option, _)) = lists.iter().find(|(.., count)| *count > 1) {
            bail!("several {values} are for `tune` alone: name one with {option}");
        }
        Ok(Self::all(args).remove(0))
    }

    /// Every combination, the first of everything first. What is named twice is one engine all the same.
    pub fn all(args: &BuilderArgs) -> Vec<Self> {
        let targets = if args.precision.is_empty() { vec![Target::Fp32] } else { distinct(&args.precision) };
        let (levels, aux) = (or_default(&args.optimization_level), or_default(&args.aux_streams));
        let ranges = or_default(&args.batch_range);
        let mut all = Vec::new();
        for &target in &targets {
            for &optimization_level in &levels {
                for &aux_streams in &aux {
                    for &batch_range in &ranges {
                        let name = String::new();
                        all.push(Self { target, optimization_level, aux_streams, batch_range, name });
                    }
                }
            }
        }
        let [by_level, by_aux, by_range] = [levels.len() > 1, aux.len() > 1, ranges.len() > 1];
        let by_precision = targets.len() > 1 || !(by_level || by_aux || by_range);
        let tells = [by_precision, by_level, by_aux, by_range];
        all.iter_mut().for_each(|variant| variant.name = variant.told(tells));
        all
    }

    /// Its words, of which these tell it from the others.
    fn told(&self, tells: [bool; 4]) -> String {
        let words = [
            Some(self.target.to_string()),
            self.optimization_level.map(|level| format!("level {level}")),
            self.aux_streams.map(|count| format!("aux {count}")),
            self.batch_range.map(|range| format!("batch {range}")),
        ];
        let told = words.into_iter().zip(tells).filter_map(|(word, tells)| word.filter(|_| tells));
        told.collect::<Vec<_>>().join(", ")
    }

    /// The name of its folder.
    pub fn folder(&self) -> String {
        self.name.replace(", ", "-").replace(' ', "-")
    }

    /// What its builder may do, with this flag for its precision.
    pub fn options(&self, args: &BuilderArgs, precision: Precision) -> BuildOptions {
        BuildOptions {
            precision,
            is_exact_fp32: args.exact_fp32,
            optimization_level: self.optimization_level,
            workspace_bytes: args.workspace_mb.map(|megabytes| megabytes as u64 * 1_000_000),
            aux_streams: self.aux_streams,
            tactics: args.tactics.iter().copied().collect(),
            is_version_compatible: args.version_compatible,
            least_batch_size: self.batch_range.map(|range| range.least).filter(|least| *least > 1),
        }
    }

    /// The largest batch: that of its range, or else another one.
    pub fn max_batch(&self, otherwise: MaxBatch) -> MaxBatch {
        self.batch_range.map_or(otherwise, |range| MaxBatch::Exactly(range.most))
    }
}

/// The values of a list, or that nothing was said.
fn or_default<T: Copy + PartialEq>(values: &[T]) -> Vec<Option<T>> {
    if values.is_empty() { vec![None] } else { distinct(values).into_iter().map(Some).collect() }
}

/// The values of a list, each once, where it comes first.
fn distinct<T: Copy + PartialEq>(values: &[T]) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(value) {
            distinct.push(*value);
        }
    }
    distinct
}
