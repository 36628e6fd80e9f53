//! `IBuilder`: makes serialised engines from networks.

use std::marker::PhantomData;
use std::sync::Arc;

use super::abi::{Family, calls};
use super::builder_config::BuilderConfig;
use super::host_memory::HostMemory;
use super::network::Network;
use super::object::{Object, Owned};
use super::optimization_profile::OptimizationProfile;
use super::runtime::create_first;
use super::session::Session;
use crate::cuda::CudaContext;
use crate::error::Result;

/// Makes serialised engines. It and all that it makes stay on one thread.
#[doc(alias = "IBuilder")]
pub struct Builder {
    owned: Arc<Owned>,
    _on_one_thread: PhantomData<*const ()>,
}

impl Builder {
    #[doc(alias = "createInferBuilder_INTERNAL")]
    pub(crate) fn new(session: &Arc<Session>, device: Option<Arc<CudaContext>>) -> Result<Self> {
        // SAFETY: the function makes an `IBuilder`.
        let owned =
            unsafe { create_first(session, device, "createInferBuilder_INTERNAL", "create a builder") }?;
        // SAFETY: this is the builder's setter.
        let owned = unsafe { owned.with_recorder(calls::builder::set_error_recorder) }?;
        Ok(Self { owned: Arc::new(owned), _on_one_thread: PhantomData })
    }

    /// An empty network. In TensorRT 8 and 10 the builder may choose the types inside of it, see
    /// [`BuilderFlag`](super::BuilderFlag); in 11 and RTX they are those of the model.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) where TensorRT makes none.
    #[doc(alias = "createNetworkV2")]
    pub fn create_network(&self) -> Result<Network> {
        // Up to 8 a network has an explicit batch dimension only on request; later there is no other kind.
        const EXPLICIT_BATCH: u32 = 1;
        let flags = if self.owned.object().abi().family == Family::TensorRt8 { EXPLICIT_BATCH } else { 0 };
        // SAFETY: NVIDIA gives the caller a new `INetworkDefinition`; the builder lives and stays on this thread.
        let owned = unsafe {
            self.owned.make("create a network", |builder| calls::builder::create_network_v2(builder, flags))
        }?;
        // SAFETY: it is an `INetworkDefinition`.
        unsafe { Network::new(owned) }
    }

    /// A configuration with TensorRT's defaults.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) where TensorRT makes none.
    #[doc(alias = "createBuilderConfig")]
    pub fn create_config(&self) -> Result<BuilderConfig> {
        // SAFETY: NVIDIA gives the caller a new `IBuilderConfig`; the builder lives and stays on this thread.
        let owned = unsafe {
            self.owned.make("create a builder configuration", |builder| {
                calls::builder::create_builder_config(builder)
            })
        }?;
        Ok(BuilderConfig::new(owned, Arc::clone(&self.owned)))
    }

    /// An optimization profile without shapes.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) where TensorRT makes none.
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

    /// Builds a network. That takes seconds to minutes, and most of it runs on the GPU; TensorRT for RTX needs none.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) with the reasons.
    ///
    /// # Panics
    /// With the panic of a progress sink or a calibration source.
    #[doc(alias = "buildSerializedNetwork")]
    pub fn build(&self, network: &Network, config: &BuilderConfig) -> Result<HostMemory> {
        let (network, config) = (network.owned().object(), config.object());
        // SAFETY: NVIDIA gives the caller a new `IHostMemory`. All three live and stay on this thread, and what the
        // configuration refers to lives as long as it.
        let owned = unsafe {
            self.owned.make("build the engine", |builder| {
                calls::builder::build_serialized_network(builder, network.as_ptr(), config.as_ptr())
            })
        }?;
        // SAFETY: it is an `IHostMemory`.
        unsafe { HostMemory::new(owned) }
    }
}
