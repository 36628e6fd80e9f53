//! One opened TensorRT: its libraries, its interface and its logger, shared by all objects that it makes.

use std::ffi::c_void;
use std::path::Path;
use std::sync::Arc;

use super::abi::{Abi, Family};
use super::callbacks::{LogSink, Logger, Panics, Said, hear};
use crate::error::{Error, Result};
use crate::library::Library;

/// See the module.
pub(crate) struct Session {
    library: Library,
    /// The ONNX parser of the same version, or why there is none.
    parser: Result<Library>,
    /// Whether the CUDA driver is there and started, or why not.
    driver: Result<()>,
    abi: Abi,
    logger: &'static Logger,
    panics: Arc<Panics>,
}

impl Session {
    pub(crate) fn new(
        library: Library,
        parser: Result<Library>,
        driver: Result<()>,
        sink: Option<LogSink>,
    ) -> Result<Self> {
        let abi = Abi::of(&library)?;
        let panics = Arc::new(Panics::default());
        let logger = Logger::leak(abi, sink, Arc::clone(&panics));
        Ok(Self { library, parser, driver, abi, logger, panics })
    }

    pub(crate) fn abi(&self) -> Abi {
        self.abi
    }

    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    /// # Errors
    /// Why there is no parser.
    pub(crate) fn parser(&self) -> Result<&Library> {
        self.parser.as_ref().map_err(Clone::clone)
    }

    pub(crate) fn path(&self) -> &Path {
        self.library.path()
    }

    /// What TensorRT takes for an `ILogger*`.
    pub(crate) fn logger(&self) -> *mut c_void {
        self.logger.as_ptr()
    }

    pub(crate) fn panics(&self) -> &Arc<Panics> {
        &self.panics
    }

    /// Runs a call into TensorRT and returns what it logged.
    ///
    /// # Panics
    /// With the panic of a callback.
    pub(crate) fn listen<T>(&self, call: impl FnOnce() -> T) -> (T, Said) {
        let heard = hear(call);
        self.panics.raise();
        heard
    }

    /// The error of a call that failed, with what TensorRT said.
    pub(crate) fn refusal(&self, action: &'static str, said: Said) -> Error {
        Error::TensorRt { action, said: said.into_reason() }
    }

    /// Refuses what would end the process without a driver: `createInferRuntime_INTERNAL` of 8.6.0 follows a null
    /// pointer then. Later families return an address that is no object, see [`Object`](super::object::Object).
    ///
    /// # Errors
    /// [`Error::TensorRt`] with what is wrong with the driver.
    pub(crate) fn require_driver(&self, action: &'static str) -> Result<()> {
        if self.abi.family == Family::TensorRt8 && self.driver.is_err() {
            return Err(self.refusal_to_start(action, Said::default()));
        }
        Ok(())
    }

    /// The error of a first object that was not made. What TensorRT says there about a missing driver is a number.
    pub(crate) fn refusal_to_start(&self, action: &'static str, said: Said) -> Error {
        let mut said = said.into_reason();
        said.extend(self.driver.as_ref().err().map(ToString::to_string));
        Error::TensorRt { action, said }
    }
}
