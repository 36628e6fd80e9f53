//! TensorRT's calibration cache: a line that names version and method, then one line for each tensor, its name and the
//! bits of its scale as a 32-bit floating-point number in hexadecimal: `data: 3c010a14`.

use std::collections::BTreeMap;

use super::{LARGEST_STEP, Threshold};

/// How the first line starts.
pub(super) const START: &str = "TRT-";

/// The first line that TensorRT 8.6 writes for its entropy calibrator; builders of other versions warn and read on.
const HEADER: &str = "TRT-8600-EntropyCalibration2";

/// Thresholds as such a file. A name with a line break has no place in it.
pub(super) fn write(thresholds: &BTreeMap<String, f32>) -> String {
    let named = thresholds.iter().filter(|(name, _)| !name.contains(['\n', '\r']));
    let lines = named.map(|(name, threshold)| {
        let bits = (threshold / LARGEST_STEP).to_bits();
        format!("{name}: {bits:08x}\n")
    });
    format!("{HEADER}\n{}", lines.collect::<String>())
}

/// The thresholds of such a file, or the sentence that says what is wrong with it. Names may have colons and spaces in
/// them: the last colon of a line counts.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, f32>, String> {
    let mut lines = text.lines().enumerate();
    if !lines.next().is_some_and(|(_, line)| line.starts_with(START)) {
        return Err(format!("the first line does not start with {START}"));
    }
    let entries = lines.filter(|(_, line)| !line.trim().is_empty());
    entries
        .map(|(place, line)| {
            let wrong = |why: &str| format!("line {}: {why}", place + 1);
            let (name, bits) = line.rsplit_once(':').ok_or_else(|| wrong("there is no colon"))?;
            let digits = bits.trim();
            let is_hexadecimal = digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let bits = u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal);
            let bits =
                bits.ok_or_else(|| wrong("what is behind the colon is no 32-bit hexadecimal number"))?;
            let threshold = f32::from_bits(bits) * LARGEST_STEP;
            let Threshold(threshold) = Threshold::try_from(threshold).map_err(|why| wrong(&why))?;
            Ok((name.trim().to_owned(), threshold))
        })
        .collect()
}
