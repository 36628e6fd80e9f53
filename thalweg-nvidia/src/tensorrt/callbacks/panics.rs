//! Panics of callbacks: kept where C++ would be unwound, and raised again where Rust is.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

/// The first panic of a callback that has not been raised again.
#[derive(Default)]
pub(crate) struct Panics {
    // Contended by threads of TensorRT's builder and the one that waits for it.
    first: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Panics {
    /// Runs the body of a callback; `instead` is what it returns after a panic.
    pub(crate) fn guard<T>(&self, instead: T, body: impl FnOnce() -> T) -> T {
        // What the body may leave half done is the caller's own state, which it sees again with the panic.
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(panic);
            instead
        })
    }

    /// Goes on with the panic that was kept.
    ///
    /// # Panics
    /// If one was.
    pub(crate) fn raise(&self) {
        let panic = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_kept_until_it_is_raised_and_only_the_first_one() {
        let panics = Panics::default();
        assert_eq!(panics.guard(7, || panic!("first")), 7);
        assert_eq!(panics.guard(8, || panic!("second")), 8);
        let raised = catch_unwind(AssertUnwindSafe(|| panics.raise())).unwrap_err();
        assert_eq!(raised.downcast_ref::<&str>(), Some(&"first"));
        panics.raise();
    }
}
