//! Thresholds of hand-made distributions, and tables as files.

use std::collections::BTreeMap;

use super::histogram::Histogram;
use super::*;
use crate::model::sketch::Sketch;
use crate::precision::SampleSource;
use crate::random::Random;

fn histogram(values: &[f64]) -> Histogram {
    let largest = values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let mut histogram = Histogram::up_to(largest);
    histogram.add(values);
    histogram
}

/// The error that a threshold costs these values, computed by quantising them.
fn squared_error(values: &[f64], threshold: f64) -> f64 {
    let step = threshold / f64::from(LARGEST_STEP);
    let quantized = |value: f64| (value / step).round().clamp(-127.0, 127.0) * step;
    values.iter().map(|value| (value - quantized(*value)).powi(2)).sum()
}

/// A bell around 0 with a few values far outside.
fn bell_with_outliers(seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut bell: Vec<f64> = (0..20_000).map(|_| (0..12).map(|_| random.unit()).sum::<f64>() - 6.0).collect();
    bell.extend([60.0, -45.0]);
    bell
}

#[test]
fn the_methods_clip_outliers_and_the_largest_magnitude_does_not() {
    let histogram = histogram(&bell_with_outliers(1));
    assert_eq!(CalibrationMethod::MinMax.threshold(&histogram), 60.0);
    for method in [CalibrationMethod::Entropy, CalibrationMethod::Percentile] {
        let threshold = method.threshold(&histogram);
        assert!((2.5..15.0).contains(&threshold), "{method}: {threshold}");
    }
    // Clipping an outlier costs the square of what is cut off, so this one cuts off little.
    let threshold = CalibrationMethod::Mse.threshold(&histogram);
    assert!((45.0..59.0).contains(&threshold), "{threshold}");
}

#[test]
fn the_least_squared_error_is_found_within_a_percent() {
    for seed in 0..3 {
        let values = bell_with_outliers(seed);
        let found = squared_error(&values, CalibrationMethod::Mse.threshold(&histogram(&values)));
        let thresholds = (1..=600).map(|place| f64::from(place) / 10.0);
        let least = thresholds.map(|it| squared_error(&values, it)).fold(f64::INFINITY, f64::min);
        assert!(found <= least * 1.01, "seed {seed}: {found} instead of {least}");
    }
}

#[test]
fn values_without_outliers_are_hardly_clipped() {
    let even: Vec<f64> = (0..20_000).map(|place| f64::from(place) / 20_000.0).collect();
    let histogram = histogram(&even);
    for method in CalibrationMethod::ALL {
        let threshold = method.threshold(&histogram);
        assert!((0.98..=1.0).contains(&threshold), "{method}: {threshold}");
    }
}

#[test]
fn a_value_that_is_always_zero_has_the_threshold_zero_and_no_scale() {
    let histogram = histogram(&[0.0; 10]);
    assert!(CalibrationMethod::ALL.iter().all(|method| method.threshold(&histogram) == 0.0));
    let table = CalibrationTable { thresholds: [("x".to_owned(), 0.0)].into(), ..Default::default() };
    assert_eq!((table.threshold("x"), table.scale("x"), table.scale("y")), (Some(0.0), None, None));
}

#[test]
fn a_network_is_run_for_its_values_and_those_that_are_not_finite_have_no_threshold() {
    let sketch = Sketch::new().input("x", "1,4").output("y").node("a = Add(x, x)", &[]);
    let model = sketch.node("b = Log(a)", &[]).node("c = Log(b)", &[]).node("y = Relu(c)", &[]).model();
    let names = ["x", "a", "c"].map(str::to_owned);
    let input_shapes = BTreeMap::new();
    let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 3 };
    for method in CalibrationMethod::ALL {
        let table = CalibrationTable::measure(&model, &names, method, &source).unwrap();
        let threshold = table.threshold("a").unwrap();
        assert!((1.5..=2.0).contains(&threshold), "{method}: {threshold}");
        // The logarithm of a negative number.
        assert_eq!(table.threshold("c"), None);
        let source = table.source.unwrap();
        assert_eq!((source.sample_count, source.is_random), (8, true));
    }
}

fn some_table() -> CalibrationTable {
    let thresholds = [("conv1:0", 2.54), ("a b", 1e-30), ("zero", 0.0)];
    CalibrationTable {
        method: Some(CalibrationMethod::Entropy),
        source: None,
        thresholds: thresholds.map(|(name, threshold)| (name.to_owned(), threshold)).into(),
    }
}

#[test]
fn a_table_survives_both_kinds_of_file() {
    let table = some_table();
    assert_eq!(CalibrationTable::parse(table.to_json().as_bytes()).unwrap(), table);
    let cache = table.to_tensorrt_cache();
    let (header, lines) = cache.split_once('\n').unwrap();
    assert_eq!(header, "TRT-8600-EntropyCalibration2");
    assert!(lines.contains(&format!("conv1:0: {:08x}\n", (2.54_f32 / 127.0).to_bits())), "{lines}");
    let back = CalibrationTable::parse(cache.as_bytes()).unwrap();
    assert_eq!((back.method, back.len()), (None, 3));
    for (name, threshold) in table.iter() {
        let error = (back.threshold(name).unwrap() - threshold).abs();
        assert!(error <= threshold * 1e-6, "{name}: {error}");
    }
}

#[test]
fn a_file_that_is_no_table_is_refused_with_the_line() {
    for (text, expected) in [
        ("TRT-8600-EntropyCalibration2\nx 3c010a14\n", "line 2: there is no colon"),
        ("TRT-8600-EntropyCalibration2\nx: 3c010a14\ny: xyz\n", "line 3: what is behind the colon"),
        ("TRT-8600-EntropyCalibration2\nx: +c010a14\n", "line 2: what is behind the colon"),
        ("TRT-8600-EntropyCalibration2\nx: 7fc00000\n", "line 2: NaN is no threshold"),
        ("TRT-8600-EntropyCalibration2\nx: bc010a14\n", "is no threshold"),
        ("{}", "missing field"),
        (r#"{"version":9,"method":null,"source":null,"thresholds":{}}"#, "version 9"),
        (r#"{"version":1,"method":null,"source":null,"thresholds":{"x":-1}}"#, "is no threshold"),
        (r#"{"version":1,"method":null,"source":null,"thresholds":{"x":1e39}}"#, "out of range"),
    ] {
        let reason = CalibrationTable::parse(text.as_bytes()).unwrap_err();
        assert!(reason.contains(expected), "{text}: {reason}");
    }
    assert!(CalibrationTable::parse(&[0xff, 0xfe]).is_err());
}

/// Bytes of a good file, some of them changed, some gone, some doubled.
fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let place = random.below(bytes.len());
        match random.below(3) {
            0 => bytes[place] = u8::try_from(random.below(256)).unwrap(),
            1 => drop(bytes.remove(place)),
            _ => bytes.insert(place, bytes[random.below(bytes.len())]),
        }
    }
    bytes
}

/// Whether these bytes are a table; one that is can be written and read again.
fn is_sound_table(bytes: &[u8]) -> bool {
    let Ok(table) = CalibrationTable::parse(bytes) else { return false };
    assert!(table.iter().all(|(_, threshold)| threshold.is_finite() && threshold >= 0.0));
    assert_eq!(CalibrationTable::parse(table.to_json().as_bytes()).unwrap(), table);
    true
}

#[test]
fn whatever_is_read_holds_thresholds_that_can_be_written_again() {
    let table = some_table();
    let mut random = Random::new(5);
    let mut read = 0;
    for good in [table.to_json(), table.to_tensorrt_cache()] {
        read += (0..2_000).filter(|_| is_sound_table(&damaged(good.as_bytes(), &mut random))).count();
    }
    assert!(read > 200, "{read}");
}

/// The same for ten minutes, with damage upon damage: what is still a table is damaged further.
#[test]
#[ignore = "takes ten minutes"]
#[expect(clippy::print_stdout, reason = "how many there were is what is to be seen")]
fn ten_minutes_of_damage_upon_damage_are_read_or_refused() {
    let table = some_table();
    let seeds = [table.to_json(), table.to_tensorrt_cache()].map(String::into_bytes);
    let mut random = Random::new(6);
    let (mut corpus, mut tried, mut read) = (seeds.to_vec(), 0_u64, 0_u64);
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_secs(600) {
        let bytes = damaged(&corpus[random.below(corpus.len())], &mut random);
        tried += 1;
        if !is_sound_table(&bytes) || bytes.len() > 4096 {
            continue;
        }
        read += 1;
        let place = random.below(1000);
        if place < corpus.len() && place >= seeds.len() {
            corpus[place] = bytes;
        } else {
            corpus.push(bytes);
        }
        corpus.truncate(1000);
    }
    println!("{tried} files, {read} of them were tables");
    assert!(read > 0 && read < tried);
}
