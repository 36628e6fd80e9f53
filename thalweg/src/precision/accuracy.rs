//! The arithmetic of accuracy: pure functions over tensors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How far outputs are from those of FP32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// What gave the outputs that these are compared with: `FP32 engine`.
    pub reference: String,
    /// How many samples were compared.
    pub sample_count: usize,
    /// Whether the samples were random numbers, which say little about real ones.
    pub is_random: bool,
    /// Each output, in the engine's order.
    pub outputs: Vec<OutputAccuracy>,
}

/// How far one output is from that of FP32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputAccuracy {
    /// Its name.
    pub output: String,
    /// Cosine between both outputs, 1 where they have the same direction; of the worst sample.
    pub cosine: f64,
    /// max abs(a - b) over max abs(b); of the worst sample.
    pub max_relative_error: f64,
    /// Fraction of samples whose largest element is the same, for outputs that are a row of classes.
    pub top1_agreement: Option<f64>,
    /// Fraction of samples whose largest element in FP32 is among the five largest, where there are more than five.
    #[serde(default)]
    pub top5_agreement: Option<f64>,
}

/// The least accuracy that will do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AccuracyLimit {
    /// The cosine of each output is at least this.
    Cosine(f64),
    /// The largest element is the same in at least this fraction of samples.
    Top1(f64),
    /// The relative error is at most this.
    RelativeError(f64),
}

impl AccuracyLimit {
    /// Holds each output against it. One without classes has no top-1 agreement and passes.
    ///
    /// # Errors
    /// [`Error::AccuracyLost`] for the first output that is worse; [`Error::InvalidSetting`] where a top-1 limit
    /// finds no output with classes.
    pub fn check(self, accuracy: &Accuracy) -> Result<()> {
        let mut judged = 0;
        for output in &accuracy.outputs {
            let (got, is_met) = match self {
                Self::Cosine(least) => (output.cosine, output.cosine >= least),
                Self::RelativeError(most) => (output.max_relative_error, output.max_relative_error <= most),
                Self::Top1(least) => match output.top1_agreement {
                    Some(agreement) => (agreement, agreement >= least),
                    None => continue,
                },
            };
            judged += 1;
            if !is_met {
                return Err(Error::AccuracyLost {
                    output: output.output.clone(),
                    limit: self.to_string(),
                    got,
                });
            }
        }
        if judged > 0 {
            return Ok(());
        }
        Err(Error::InvalidSetting {
            name: "max-loss",
            value: self.to_string(),
            reason: "no output is a row of classes: use cosine or rel".to_owned(),
        })
    }
}

/// As on the command line: `cosine=0.999`.
impl fmt::Display for AccuracyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cosine(limit) => write!(f, "cosine={limit}"),
            Self::Top1(limit) => write!(f, "top1={limit}"),
            Self::RelativeError(limit) => write!(f, "rel={limit}"),
        }
    }
}

impl FromStr for AccuracyLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is none of cosine=0.999, top1=0.99, rel=0.01");
        let (measure, limit) = text.split_once('=').ok_or_else(wrong)?;
        let limit = limit.parse().ok().filter(|limit: &f64| limit.is_finite()).ok_or_else(wrong)?;
        let is_fraction = (0.0..=1.0).contains(&limit);
        match measure {
            "cosine" if is_fraction => Ok(Self::Cosine(limit)),
            "top1" if is_fraction => Ok(Self::Top1(limit)),
            "rel" if limit >= 0.0 => Ok(Self::RelativeError(limit)),
            _ => Err(wrong()),
        }
    }
}

/// Compares one output, sample by sample. `is_classes` says that a sample is a row of classes.
///
/// # Errors
/// [`Error::ShapeMismatch`] where the two differ in samples or in elements.
pub fn compare(
    output: &str,
    expected: &[&[f64]],
    got: &[&[f64]],
    is_classes: bool,
) -> Result<OutputAccuracy> {
    let pairs = || expected.iter().zip(got);
    let is_same_size =
        expected.len() == got.len() && pairs().all(|(expected, got)| expected.len() == got.len());
    if !is_same_size || expected.is_empty() {
        return Err(Error::ShapeMismatch {
            tensor: output.to_owned(),
            expected: sizes(expected),
            got: sizes(got),
        });
    }
    let among_five = pairs().filter(|(expected, got)| is_among_largest(got, largest(expected))).count();
    let has_five = expected.iter().all(|sample| sample.len() > TOP);
    let same_top = pairs().filter(|(expected, got)| largest(expected) == largest(got)).count();
    Ok(OutputAccuracy {
        output: output.to_owned(),
        cosine: pairs().map(|(expected, got)| cosine(expected, got)).fold(1.0, f64::min),
        max_relative_error: pairs().map(|(expected, got)| relative_error(expected, got)).fold(0.0, f64::max),
        top1_agreement: is_classes.then(|| same_top as f64 / expected.len() as f64),
        top5_agreement: (is_classes && has_five).then(|| among_five as f64 / expected.len() as f64),
    })
}

fn sizes(samples: &[&[f64]]) -> String {
    let elements = samples.first().map_or(0, |sample| sample.len());
    format!("{} samples of {elements} elements", samples.len())
}

/// Elements that are the same need no arithmetic, which infinities and NaN would spoil.
fn differ(expected: f64, got: f64) -> bool {
    !(expected == got || (expected.is_nan() && got.is_nan()))
}

/// 1 for two zeros, 0 for one, and 0 where something is not finite in one of them only.
fn cosine(expected: &[f64], got: &[f64]) -> f64 {
    let pairs = || expected.iter().copied().zip(got.iter().copied());
    if !pairs().any(|(expected, got)| differ(expected, got)) {
        return 1.0;
    }
    if pairs().any(|(expected, got)| differ(expected, got) && !(expected.is_finite() && got.is_finite())) {
        return 0.0;
    }
    // What is not finite is the same in both by now.
    let finite = || pairs().filter(|(expected, _)| expected.is_finite());
    let product: f64 = finite().map(|(expected, got)| expected * got).sum();
    let norms: f64 = finite().map(|(expected, _)| expected * expected).sum::<f64>().sqrt()
        * finite().map(|(_, got)| got * got).sum::<f64>().sqrt();
    if norms == 0.0 { 0.0 } else { (product / norms).clamp(-1.0, 1.0) }
}

/// Infinite where something is not finite in one of them only, or not zero where all should be.
fn relative_error(expected: &[f64], got: &[f64]) -> f64 {
    let finite = expected.iter().filter(|value| value.is_finite());
    let magnitude = finite.fold(0.0, |most: f64, value| most.max(value.abs()));
    let errors = expected.iter().zip(got).filter(|(expected, got)| differ(**expected, **got));
    let relative = |(expected, got): (&f64, &f64)| (expected - got).abs() / magnitude;
    errors.map(relative).map(|error| if error.is_nan() { f64::INFINITY } else { error }).fold(0.0, f64::max)
}

/// The classes among which the right one has to be for the top-5 agreement.
const TOP: usize = 5;

/// Whether fewer than five elements are larger than the one at this place.
fn is_among_largest(values: &[f64], place: Option<usize>) -> bool {
    let Some(value) = place.map(|place| values[place]) else { return values.iter().all(|it| it.is_nan()) };
    !value.is_nan() && values.iter().filter(|other| **other > value).count() < TOP
}

/// Where the largest element is: the first of equals.
fn largest(values: &[f64]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.iter().enumerate() {
        if !value.is_nan() && best.is_none_or(|(_, most)| *value > most) {
            best = Some((index, *value));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(expected: &[&[f64]], got: &[&[f64]]) -> OutputAccuracy {
        compare("y", expected, got, true).unwrap()
    }

    fn accuracy(outputs: Vec<OutputAccuracy>) -> Accuracy {
        Accuracy { reference: "FP32 engine".to_owned(), sample_count: 1, is_random: false, outputs }
    }

    #[test]
    fn the_same_outputs_lose_nothing() {
        let same = of(&[&[1.0, -2.0], &[0.0, 0.0]], &[&[1.0, -2.0], &[0.0, 0.0]]);
        assert_eq!((same.cosine, same.max_relative_error, same.top1_agreement), (1.0, 0.0, Some(1.0)));
    }

    #[test]
    fn the_worst_sample_counts() {
        let mixed = of(&[&[1.0, 0.0], &[3.0, 4.0]], &[&[1.0, 0.0], &[4.0, 3.0]]);
        assert_eq!((mixed.cosine, mixed.max_relative_error), (0.96, 0.25));
        assert_eq!(mixed.top1_agreement, Some(0.5));
    }

    #[test]
    fn the_right_class_counts_among_the_five_largest() {
        let right: &[f64] = &[9.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let fifth: &[f64] = &[1.0, 0.0, 2.0, 3.0, 4.0, 5.0];
        let sixth: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let both = of(&[right, right], &[fifth, sixth]);
        assert_eq!((both.top1_agreement, both.top5_agreement), (Some(0.0), Some(0.5)));
        assert_eq!(of(&[&right[..5]], &[&fifth[..5]]).top5_agreement, None);
    }

    #[test]
    fn scale_changes_the_relative_error_and_not_the_cosine() {
        let scaled = of(&[&[1.0, 2.0]], &[&[1.5, 3.0]]);
        assert!((scaled.cosine - 1.0).abs() < 1e-12);
        assert_eq!(scaled.max_relative_error, 0.5);
    }

    #[test]
    fn what_is_not_finite_in_one_only_is_entirely_wrong() {
        let lost = of(&[&[1.0, 2.0]], &[&[1.0, f64::NAN]]);
        assert_eq!((lost.cosine, lost.max_relative_error), (0.0, f64::INFINITY));
        let lost = of(&[&[1.0, 2.0]], &[&[1.0, f64::INFINITY]]);
        assert_eq!((lost.cosine, lost.max_relative_error), (0.0, f64::INFINITY));
        let masked = of(&[&[f64::NEG_INFINITY, 2.0]], &[&[f64::NEG_INFINITY, 1.0]]);
        assert_eq!((masked.cosine, masked.max_relative_error), (1.0, 0.5));
    }

    #[test]
    fn zeros_have_no_direction() {
        let gone = of(&[&[1.0, 2.0]], &[&[0.0, 0.0]]);
        assert_eq!((gone.cosine, gone.max_relative_error), (0.0, 1.0));
        let made_up = of(&[&[0.0, 0.0]], &[&[0.0, 1.0]]);
        assert_eq!((made_up.cosine, made_up.max_relative_error), (0.0, f64::INFINITY));
    }

    #[test]
    fn outputs_of_another_size_are_not_compared() {
        let error = compare("y", &[&[1.0, 2.0]], &[&[1.0]], false).unwrap_err();
        let text = "shape of `y`: expected 1 samples of 2 elements, got 1 samples of 1 elements";
        assert_eq!(error.to_string(), text);
        assert!(compare("y", &[], &[], false).is_err());
    }

    #[test]
    fn a_limit_fails_the_first_output_that_is_worse() {
        let output = |name: &str, cosine| OutputAccuracy {
            output: name.to_owned(),
            cosine,
            max_relative_error: 0.1,
            top1_agreement: None,
            top5_agreement: None,
        };
        let accuracy = accuracy(vec![output("good", 0.9999), output("bad", 0.98)]);
        assert!(AccuracyLimit::Cosine(0.9).check(&accuracy).is_ok());
        assert!(AccuracyLimit::RelativeError(0.1).check(&accuracy).is_ok());
        let text = AccuracyLimit::Cosine(0.999).check(&accuracy).unwrap_err().to_string();
        assert!(text.contains("`bad`") && text.contains("0.98") && text.contains("cosine=0.999"), "{text}");
        let text = AccuracyLimit::Top1(0.5).check(&accuracy).unwrap_err().to_string();
        assert!(text.contains("no output is a row of classes"), "{text}");
    }

    #[test]
    fn a_value_that_is_no_number_meets_no_limit() {
        let mut lost = of(&[&[1.0]], &[&[2.0]]);
        lost.cosine = f64::NAN;
        assert!(AccuracyLimit::Cosine(0.0).check(&accuracy(vec![lost])).is_err());
    }

    #[test]
    fn limits_are_read_as_they_are_written() {
        for text in ["cosine=0.999", "top1=0.99", "rel=0.01"] {
            assert_eq!(text.parse::<AccuracyLimit>().unwrap().to_string(), text);
        }
        for text in ["cosine", "cosine=2", "rel=-1", "top1=nan", "psnr=30"] {
            assert!(text.parse::<AccuracyLimit>().is_err(), "{text}");
        }
    }
}
