//! `IRefitter`: gives an engine other weights without building it again.

use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use super::abi::{WeightsView, calls};
use super::data_type::DataType;
use super::engine::Engine;
use super::object::{Object, Owned, c_string, text_at};
use crate::error::{Error, Result};

/// Gives an engine other weights. It has the engine for itself, because nothing may run on it meanwhile. It works on
/// engines that were built with [`BuilderFlag::Refit`](super::BuilderFlag::Refit).
#[doc(alias = "IRefitter")]
pub struct Refitter {
    // First, because it reads the values and works on the engine.
    owned: Owned,
    values: HashMap<String, Vec<u8>>,
    engine: Engine,
    _on_one_thread: PhantomData<*const ()>,
}

/// Asks for the names of weights: how many there is room for, and where.
type Names = unsafe fn(Object, i32, *mut *const c_char) -> Result<i32>;

impl Refitter {
    /// Starts with an engine that nobody else has: no clones, execution contexts or inspectors.
    ///
    /// # Errors
    /// [`Error::EngineInUse`] where somebody has it, [`Error::TensorRt`] where it cannot be refitted.
    #[doc(alias = "createInferRefitter_INTERNAL")]
    pub fn new(engine: Engine) -> Result<Self> {
        type Create = unsafe extern "C" fn(*mut c_void, *mut c_void, i32) -> *mut c_void;
        if Arc::strong_count(engine.owned()) > 1 {
            return Err(Error::EngineInUse);
        }
        let session = engine.owned().session();
        // SAFETY: `void* createInferRefitter_INTERNAL(void*, void*, int32_t)` in NvInferRuntime.h of every version.
        let create: Create = unsafe { session.library().function("createInferRefitter_INTERNAL") }?;
        let version = crate::version::tensorrt_number(session.library())?;
        // SAFETY: the engine lives, and the logger does so for ever.
        let create = |engine: Object| Ok(unsafe { create(engine.as_ptr(), session.logger(), version) });
        // SAFETY: NVIDIA gives the caller a new `IRefitter`.
        let owned = unsafe { engine.owned().make("create a refitter", create) }?;
        // SAFETY: this is the refitter's setter.
        let owned = unsafe { owned.with_recorder(calls::refitter::set_error_recorder) }?;
        Ok(Self { owned, values: HashMap::new(), engine, _on_one_thread: PhantomData })
    }

    /// The names of all weights that can be set.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT cannot tell.
    #[doc(alias = "getAllWeights")]
    pub fn weights(&self) -> Result<Vec<String>> {
        self.names("name the weights", calls::refitter::all_weights)
    }

    /// The names of weights that have to be set too, because of those that were.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT cannot tell.
    #[doc(alias = "getMissingWeights")]
    pub fn missing_weights(&self) -> Result<Vec<String>> {
        self.names("name the missing weights", calls::refitter::missing_weights)
    }

    /// Sets weights: elements of this type, one behind the other.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where there are none of this name, or with another type or number of elements;
    /// [`Error::WrongSize`] where the last element is not whole.
    #[doc(alias = "setNamedWeights")]
    pub fn set_weights(&mut self, name: &str, data_type: DataType, values: Vec<u8>) -> Result<()> {
        let weights = view(data_type, &values)?;
        let c_name = c_string(name)?;
        // SAFETY: the refitter lives on this thread; the values live below, or until they are replaced there.
        self.owned.agree("set the weights", |refitter| unsafe {
            calls::refitter::set_named_weights(refitter, c_name.as_ptr(), weights)
        })?;
        self.values.insert(name.to_owned(), values);
        Ok(())
    }

    /// Changes the engine and gives it back.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where weights are missing or TensorRT refuses them. The engine may be half changed then,
    /// and is gone.
    #[doc(alias = "refitCudaEngine")]
    pub fn refit(self) -> Result<Engine> {
        let refit = |refitter: Object| {
            // SAFETY: the refitter lives on this thread, the values live, and nothing runs on the engine: nobody
            // else has it.
            unsafe { calls::refitter::refit_cuda_engine(refitter) }
        };
        self.owned.agree("refit the engine", refit)?;
        Ok(self.engine)
    }

    fn names(&self, action: &'static str, ask: Names) -> Result<Vec<String>> {
        // SAFETY: the refitter lives on this thread; without room TensorRT only counts.
        let (count, said) = self.owned.listen(|refitter| unsafe { ask(refitter, 0, ptr::null_mut()) })?;
        let room = usize::try_from(count).map_err(|_| self.owned.session().refusal(action, said))?;
        let mut names = vec![ptr::null(); room];
        // SAFETY: as above, and there is room for `count` names.
        let (count, _) = self.owned.listen(|refitter| unsafe { ask(refitter, count, names.as_mut_ptr()) })?;
        let written = names.into_iter().take(usize::try_from(count).unwrap_or(0));
        // SAFETY: TensorRT wrote texts that live as long as the engine.
        Ok(written.filter_map(|name| unsafe { text_at(name) }).collect())
    }
}

/// The values as TensorRT takes them.
///
/// # Errors
/// [`Error::WrongSize`] where the last element is not whole, or the type is not known.
fn view(data_type: DataType, values: &[u8]) -> Result<WeightsView> {
    let bits = values.len() * 8;
    let element = data_type.bit_count().unwrap_or(0);
    if element == 0 || !bits.is_multiple_of(element) {
        let expected = if element == 0 { 0 } else { bits.next_multiple_of(element) / 8 };
        return Err(Error::WrongSize { what: "weights", index: 0, expected, got: values.len() });
    }
    let count = i64::try_from(bits / element).expect("bug: no slice has more than isize::MAX bytes");
    Ok(WeightsView { data_type: data_type.number(), values: values.as_ptr().cast(), count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_counted_in_elements_and_the_last_has_to_be_whole() {
        let count = |data_type, bytes: usize| view(data_type, &vec![0; bytes]).map(|weights| weights.count);
        assert_eq!(count(DataType::Float32, 12), Ok(3));
        assert_eq!(count(DataType::Int4, 3), Ok(6));
        assert_eq!(count(DataType::Float16, 0), Ok(0));
        let halves = Error::WrongSize { what: "weights", index: 0, expected: 8, got: 6 };
        assert_eq!(count(DataType::Float32, 6), Err(halves));
        assert!(count(DataType::Other(99), 4).is_err());
    }
}
