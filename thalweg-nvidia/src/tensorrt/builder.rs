//! `IBuilder`: makes serialised engines from networks.

use std::marker::PhantomData;
use std::sync::Arc;

use super::abi::{Family, calls};
use super::builder_config::BuilderConfig;
use super::host_memory::HostMemory;
use super::network::Network;
use super::object::{Object, Owned};
use super::optimization_profile::OptimizationProfile;
use super::runtime::{Target, create_first};
use super::session::Session;
use crate::error::{Error, Result};

/// Makes serialised engines. It and all that it makes stay on one thread.
#[doc(alias = "IBuilder")]
pub struct Builder {
    owned: Arc<Owned>,
    _on_one_thread: PhantomData<*const ()>,
}

impl Builder {
    #[doc(alias = "createInferBuilder_INTERNAL")]
    pub(crate) fn new(session: &Arc<Session>, target: Target<'_>) -> Result<Self> {
        // SAFETY: the function makes an `IBuilder`.
        let owned =
            unsafe { create_first(session, &target, "createInferBuilder_INTERNAL", "create a builder") }?;
        // SAFETY: this is the builder's setter.
        let owned = unsafe { target.account_for(owned, calls::builder::set_gpu_allocator) }?;
        // SAFETY: this is the builder's setter.
        let owned = unsafe { owned.with_recorder(calls::builder::set_error_recorder) }?;
        Ok(Self { owned: Arc::new(owned), _on_one_thread: PhantomData })
    }

    /// An empty network. In TensorRT 8 and 10 the builder may choose the types inside of it, see
    /// [`BuilderFlag`](super::BuilderFlag); in 11 and RTX they are those of the model.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT makes none.
    #[doc(alias = "createNetworkV2")]
    pub fn create_network(&self) -> Result<Network> {
        // Up to 8 a network has an explicit batch dimension only on request; later there is no other kind.
        const EXPLICIT_BATCH: u32 = 1;
        let flags = if self.owned.object().abi().family == Family::TensorRt8 { EXPLICIT_BATCH } else { 0 };
        // SAFETY: the builder lives and stays on this thread.
        let create = |builder: Object| unsafe { calls::builder::create_network_v2(builder, flags) };
        // SAFETY: NVIDIA gives the caller a new `INetworkDefinition`.
        let owned = unsafe { self.owned.make("create a network", create) }?;
        // SAFETY: it is an `INetworkDefinition`.
        unsafe { Network::new(owned) }
    }

    /// A configuration with TensorRT's defaults.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT makes none.
    #[doc(alias = "createBuilderConfig")]
    pub fn create_config(&self) -> Result<BuilderConfig> {
        // SAFETY: the builder lives and stays on this thread.
        let create = |builder: Object| unsafe { calls::builder::create_builder_config(builder) };
        // SAFETY: NVIDIA gives the caller a new `IBuilderConfig`.
        let owned = unsafe { self.owned.make("create a builder configuration", create) }?;
        Ok(BuilderConfig::new(owned, Arc::clone(&self.owned)))
    }

    /// An optimization profile without shapes.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT makes none.
    #[doc(alias = "createOptimizationProfile")]
    pub fn create_optimization_profile(&self) -> Result<OptimizationProfile> {
        let (address, said) = self.owned.listen(|builder| {
            // SAFETY: the builder lives and stays on this thread.
            unsafe { calls::builder::create_optimization_profile(builder) }
        })?;
        let object = Object::new(address, self.owned.object().abi())
            .ok_or_else(|| self.owned.session().refusal("create an optimization profile", said))?;
        Ok(OptimizationProfile::new(object, Arc::clone(&self.owned)))
    }

    /// Builds a network. That takes seconds to minutes, and most of it runs on the GPU; TensorRT for RTX
    /// needs none.
    ///
    /// # Errors
    /// [`Error::TensorRt`] with the reasons; [`Error::OtherBuilder`] where network or configuration are of
    /// another builder, [`Error::OtherNetwork`] where the configuration calibrates another network.
    ///
    /// # Panics
    /// With the panic of a progress sink or a calibration source.
    #[doc(alias = "buildSerializedNetwork")]
    pub fn build(&self, network: &Network, config: &BuilderConfig) -> Result<HostMemory> {
        if !network.owned().is_child_of(&self.owned) || !config.owned().is_child_of(&self.owned) {
            return Err(Error::OtherBuilder);
        }
        config.check_calibration(network)?;
        let (network, config) = (network.owned().object(), config.object());
        // SAFETY: all three live and stay on this thread, and what the configuration refers to lives as long
        // as it.
        let build = |builder: Object| unsafe {
            calls::builder::build_serialized_network(builder, network.as_ptr(), config.as_ptr())
        };
        // SAFETY: NVIDIA gives the caller a new `IHostMemory`.
        let owned = unsafe { self.owned.make("build the engine", build) }?;
        // SAFETY: it is an `IHostMemory`.
        unsafe { HostMemory::new(owned) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Places;
    use crate::stand_in::cuda::DriverStandIn;
    use crate::tensorrt::{Flavour, MemoryAccount, TensorRt, parse_onnx};

    #[test]
    fn a_real_builder_accepts_an_account_and_builds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folder = root.join(".tensorrt/rtx-1.7");
        if !folder.is_dir() {
            // `tests/tensorrt_rtx.rs` says on the terminal that it is not there.
            return;
        }
        let places = Places { directories: vec![folder], ..Places::default() };
        let tensorrt = TensorRt::open_flavour(Flavour::Rtx, &places, None).unwrap();
        let device = DriverStandIn::new("counted-builder");
        let account = MemoryAccount::new();
        let builder = tensorrt.counted_builder_on(&device.context(), &account).unwrap();
        let mut network = builder.create_network().unwrap();
        parse_onnx(&mut network, include_bytes!("../../../models/ppocr_cls.onnx"), None).unwrap();
        network.set_input_shape("x", &[1, 3, 48, 192]).unwrap();
        let config = builder.create_config().unwrap();
        assert!(builder.build(&network, &config).unwrap().len() > 1000);
        // That for RTX compiles on the host and takes none; what others take is counted on a GPU.
        drop((config, network, builder));
        assert_eq!((account.used_bytes(), device.live().device_buffers), (0, 0));
    }
}
