//! `IEngineInspector`: what became of the network's layers.

use std::ffi::c_char;
use std::fmt::Write as _;

use super::abi::calls;
use super::object::{Object, Owned, text_at};
use crate::error::Result;

/// `LayerInformationFormat::kJSON`
const JSON: i32 = 1;

/// Tells what became of the network's layers: as much as the engine was built to know, see
/// [`ProfilingVerbosity`](super::ProfilingVerbosity).
#[doc(alias = "IEngineInspector")]
pub struct EngineInspector {
    owned: Owned,
    /// TensorRT keeps the last text in the inspector, so only one thread may ask.
    _not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl EngineInspector {
    /// # Safety
    /// - `owned` is an `IEngineInspector`.
    pub(crate) unsafe fn new(owned: Owned) -> Result<Self> {
        // SAFETY: this is the inspector's setter.
        let owned = unsafe { owned.with_recorder(calls::engine_inspector::set_error_recorder) }?;
        Ok(Self { owned, _not_sync: std::marker::PhantomData })
    }

    /// All layers, as TensorRT's JSON.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) where TensorRT cannot tell.
    #[doc(alias = "getEngineInformation")]
    pub fn engine_json(&self) -> Result<String> {
        self.text("describe the engine", |inspector| {
            // SAFETY: the inspector lives, and its text is copied before the next call.
            unsafe { calls::engine_inspector::engine_information(inspector, JSON) }
        })
    }

    /// One layer, counted from 0, as TensorRT's JSON.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) where there is no such layer.
    #[doc(alias = "getLayerInformation")]
    pub fn layer_json(&self, layer: usize) -> Result<String> {
        let layer = i32::try_from(layer).unwrap_or(i32::MAX);
        self.text("describe the layer", |inspector| {
            // SAFETY: the inspector lives, and its text is copied before the next call.
            unsafe { calls::engine_inspector::layer_information(inspector, layer, JSON) }
        })
    }

    fn text(
        &self,
        action: &'static str,
        ask: impl FnOnce(Object) -> Result<*const c_char>,
    ) -> Result<String> {
        let (text, said) = self.owned.listen(ask)?;
        // SAFETY: TensorRT gives null or a text that it keeps until it is asked again.
        let text = unsafe { text_at(text) };
        let text = text.filter(|_| said.errors.is_empty());
        text.map(|text| with_escapes(&text)).ok_or_else(|| self.owned.session().refusal(action, said))
    }
}

/// The same text as JSON that a parser takes: TensorRT puts the layers that it has fused between control characters
/// (0x1e in 8.6), as they are.
fn with_escapes(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let (mut is_in_string, mut is_escaped) = (false, false);
    for character in text.chars() {
        if is_in_string && character < ' ' {
            // A `String` takes whatever is written.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
            is_escaped = false;
            continue;
        }
        is_in_string ^= character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_in_texts_are_escaped_and_everything_else_stays() {
        let given = "{\"Layers\": [\n  \"a \\\"quoted\\\"\u{1e}b\tc\", \"d\\\\\"\n]}\n";
        assert!(serde_json::from_str::<serde_json::Value>(given).is_err());
        let value: serde_json::Value = serde_json::from_str(&with_escapes(given)).unwrap();
        assert_eq!(value["Layers"][0], "a \"quoted\"\u{1e}b\tc");
        assert_eq!(value["Layers"][1], "d\\");
        let valid = "{\"é\": \"\\n\"}\n";
        assert_eq!(with_escapes(valid), valid);
    }
}
