//! `IRuntimeConfig`: how execution contexts are made, from TensorRT 10.11 on and in that for RTX.

use super::abi::calls;
use super::engine::Activations;
use super::object::{Object, Owned};
use crate::error::Result;

/// How execution contexts are made. For [`Engine::create_configured_context`](super::Engine::create_configured_context)
/// of the engine that made it.
#[doc(alias = "IRuntimeConfig")]
pub struct RuntimeConfig {
    owned: Owned,
    activations: Activations,
}

/// When TensorRT for RTX compiles kernels for the shapes that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "DynamicShapesKernelSpecializationStrategy")]
pub enum KernelSpecialization {
    /// Beside the executions, which run with kernels for all shapes until then; the default.
    Lazy,
    /// Before the first execution with new shapes, which waits for it.
    Eager,
    /// Never: kernels for all shapes.
    Off,
}

/// Whether TensorRT for RTX captures executions as CUDA graphs by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "CudaGraphStrategy")]
pub enum OwnGraphs {
    /// No; the default. Captures of the caller's go on.
    Off,
    /// Whole executions, wherever it can.
    WholeExecution,
}

impl RuntimeConfig {
    /// `owned` is a new `IRuntimeConfig`.
    pub(crate) fn new(owned: Owned) -> Self {
        Self { owned, activations: Activations::OwnedByContext }
    }

    pub(crate) fn owned(&self) -> &Owned {
        &self.owned
    }

    /// Who owns the memory that its contexts compute in: the context itself unless it is said here.
    pub fn activations(&self) -> Activations {
        self.activations
    }

    /// Chooses who owns that memory.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) where TensorRT refuses it.
    #[doc(alias = "setExecutionContextAllocationStrategy")]
    pub fn set_activations(&mut self, activations: Activations) -> Result<()> {
        // SAFETY: the configuration lives and `&mut self` keeps others away, as in all methods here.
        self.owned.instruct("set the allocation strategy", |config: Object| unsafe {
            calls::runtime_config::set_allocation_strategy(config, activations.number())
        })?;
        self.activations = activations;
        Ok(())
    }

    /// Chooses when kernels are compiled for single shapes.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`](crate::Error::NotInThisVersion) but for RTX.
    #[doc(alias = "setDynamicShapesKernelSpecializationStrategy")]
    pub fn set_kernel_specialization(&mut self, specialization: KernelSpecialization) -> Result<()> {
        let number = match specialization {
            KernelSpecialization::Lazy => 0,
            KernelSpecialization::Eager => 1,
            KernelSpecialization::Off => 2,
        };
        // SAFETY: see `set_activations`.
        self.owned.instruct("set the kernel specialisation", |config: Object| unsafe {
            calls::runtime_config::set_kernel_specialization(config, number)
        })
    }

    /// Chooses whether TensorRT captures executions by itself.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`](crate::Error::NotInThisVersion) but for RTX,
    /// [`Error::TensorRt`](crate::Error::TensorRt) where TensorRT refuses it.
    #[doc(alias = "setCudaGraphStrategy")]
    pub fn set_own_graphs(&mut self, graphs: OwnGraphs) -> Result<()> {
        let number = match graphs {
            OwnGraphs::Off => 0,
            OwnGraphs::WholeExecution => 1,
        };
        // SAFETY: see `set_activations`.
        self.owned.agree("set its own CUDA graphs", |config: Object| unsafe {
            calls::runtime_config::set_cuda_graph_strategy(config, number)
        })
    }
}
