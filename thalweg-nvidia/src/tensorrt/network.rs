//! `INetworkDefinition`: a network before it is built.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;

use super::abi::{Dims, calls};
use super::callbacks::Said;
use super::data_type::DataType;
use super::object::{Object, Owned, text_at};
use crate::error::{Error, Result};

/// A network before it is built. [`parse_onnx`](super::parse_onnx) fills it.
#[doc(alias = "INetworkDefinition")]
pub struct Network {
    // The weights belong to the parser, so it stays. It goes first, as in NVIDIA's samples.
    parser: Option<Owned>,
    owned: Arc<Owned>,
    _on_one_thread: PhantomData<*const ()>,
}

/// An input or an output of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkTensor {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub data_type: DataType,
    /// Its shape, -1 for dimensions that are open. `None` where TensorRT cannot tell.
    pub shape: Option<Vec<i64>>,
    /// Whether its values are shapes of other tensors.
    pub is_shape_tensor: bool,
}

impl Network {
    /// # Safety
    /// - `owned` is an `INetworkDefinition`.
    pub(crate) unsafe fn new(owned: Owned) -> Result<Self> {
        // SAFETY: this is the network's setter.
        let owned = unsafe { owned.with_recorder(calls::network_definition::set_error_recorder) }?;
        Ok(Self { parser: None, owned: Arc::new(owned), _on_one_thread: PhantomData })
    }

    pub(crate) fn owned(&self) -> &Arc<Owned> {
        &self.owned
    }

    /// Keeps the parser that filled it.
    pub(crate) fn keep(&mut self, parser: Owned) {
        self.parser = Some(parser);
    }

    /// Whether a parser has filled it.
    pub(crate) fn is_filled(&self) -> bool {
        self.parser.is_some()
    }

    /// Its inputs, in their order.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT gives none.
    pub fn inputs(&self) -> Result<Vec<NetworkTensor>> {
        // SAFETY: the network lives and stays on this thread, here and below.
        let count = unsafe { calls::network_definition::input_count(self.owned.object()) }?;
        // SAFETY: see above.
        (0..count)
            .map(|index| {
                self.tensor(unsafe { calls::network_definition::input(self.owned.object(), index) }?)
            })
            .collect()
    }

    /// Its outputs, in their order.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT gives none.
    pub fn outputs(&self) -> Result<Vec<NetworkTensor>> {
        // SAFETY: the network lives and stays on this thread, here and below.
        let count = unsafe { calls::network_definition::output_count(self.owned.object()) }?;
        // SAFETY: see above.
        (0..count)
            .map(|index| {
                self.tensor(unsafe { calls::network_definition::output(self.owned.object(), index) }?)
            })
            .collect()
    }

    /// How many layers it has before fusion.
    ///
    /// # Errors
    /// None that a supported version has.
    #[doc(alias = "getNbLayers")]
    pub fn layer_count(&self) -> Result<usize> {
        // SAFETY: the network lives and stays on this thread.
        let count = unsafe { calls::network_definition::layer_count(self.owned.object()) }?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Fixes the shape of an input.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a wrong name, [`Error::TensorRt`] where TensorRT refuses it,
    /// [`Error::ShapeDoesNotFit`] for more than eight dimensions.
    #[doc(alias = "setDimensions")]
    pub fn set_input_shape(&mut self, input: &str, shape: &[i64]) -> Result<()> {
        let inputs = self.inputs()?;
        let index =
            inputs.iter().position(|known| known.name == input).ok_or_else(|| Error::NoSuchTensor {
                tensor: input.to_owned(),
                known: inputs.iter().map(|known| known.name.clone()).collect(),
            })?;
        let index = i32::try_from(index).expect("bug: TensorRT counts inputs with an int32_t");
        let dims = Dims::new(self.owned.object().abi(), shape)?;
        self.owned.instruct("fix the shape of an input", |network| {
            // SAFETY: the network lives and stays on this thread.
            let tensor = unsafe { calls::network_definition::input(network, index) }?;
            let tensor = Object::new(tensor, network.abi()).expect("bug: `inputs` has read it");
            // SAFETY: the tensor lives as long as its network; it copies the dims.
            unsafe { calls::tensor::set_dimensions(tensor, dims.as_ptr()) }
        })
    }

    fn tensor(&self, address: *mut c_void) -> Result<NetworkTensor> {
        let object = Object::new(address, self.owned.object().abi());
        let nothing = || self.owned.session().refusal("give a tensor of the network", Said::default());
        read_tensor(object.ok_or_else(nothing)?)
    }
}

fn read_tensor(tensor: Object) -> Result<NetworkTensor, Error> {
    // SAFETY: the tensor lives as long as its network, which stays on this thread; here and below.
    let name = unsafe { calls::tensor::name(tensor) }?;
    // SAFETY: see above.
    let data_type = unsafe { calls::tensor::data_type(tensor) }?;
    // SAFETY: see above.
    let shape = unsafe { calls::tensor::dimensions(tensor) }?;
    // SAFETY: see above.
    let is_shape_tensor = unsafe { calls::tensor::is_shape_tensor(tensor) }?;
    // SAFETY: TensorRT gives null or a name that lives as long as the tensor.
    let name = unsafe { text_at(name) }.unwrap_or_default();
    Ok(NetworkTensor { name, data_type: DataType::of(data_type), shape, is_shape_tensor })
}
