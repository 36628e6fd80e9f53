//! The GPU that tests run on, one at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_nvidia::Places;
use thalweg_nvidia::cuda::{CudaContext, Driver, HostWait, Stream, StreamPriority};

/// One test at a time: they measure the same device, and TensorRT's first logger stays.
pub fn alone() -> MutexGuard<'static, ()> {
    static DEVICE: Mutex<()> = Mutex::new(());
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn context() -> Arc<CudaContext> {
    let driver = Driver::open(&Places::default()).unwrap();
    driver.device("0").unwrap().retain_primary_context(HostWait::Unchanged).unwrap()
}

pub fn stream(context: &Arc<CudaContext>) -> Arc<Stream> {
    Arc::new(Stream::new(context, StreamPriority::Normal).unwrap())
}
