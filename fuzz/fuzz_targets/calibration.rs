//! Arbitrary bytes as a calibration table: whatever is read has thresholds that eight bits can have, and is the same
//! after it was written and read again.
//!
//! ```sh
//! cargo +nightly fuzz run -s none calibration -- -max_len=4096 -max_total_time=600
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg::precision::CalibrationTable;

fuzz_target!(|bytes: &[u8]| {
    let Ok(table) = CalibrationTable::parse(bytes) else { return };
    assert!(table.iter().all(|(_, threshold)| threshold.is_finite() && threshold >= 0.0));
    let again = CalibrationTable::parse(table.to_json().as_bytes());
    assert_eq!(again.as_ref(), Ok(&table));
    // What a name may not be in TensorRT's file is refused or read, but never a panic.
    let _ = CalibrationTable::parse(table.to_tensorrt_cache().as_bytes());
});
