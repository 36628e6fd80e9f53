//! Making executors one by one until the device's memory is full.

use super::Executor;
use crate::error::{Error, Result, Room};

/// All executors of a pool, or how many of them fit. Those that were made are gone again then.
///
/// # Errors
/// [`Error::DoesNotFit`] where one of them has no memory left; any other error of `make` as it is.
pub(super) fn make_all(
    streams: usize,
    mut make: impl FnMut(usize) -> Result<Box<dyn Executor>>,
) -> Result<Vec<Box<dyn Executor>>> {
    let mut executors = Vec::with_capacity(streams);
    for stream in 0..streams {
        match make(stream) {
            Ok(executor) => executors.push(executor),
            Err(error @ Error::DoesNotFit { .. }) => return Err(error),
            Err(error) if error.is_out_of_memory() => {
                return Err(Error::DoesNotFit {
                    streams,
                    fits: stream,
                    room: Room::Memory,
                    reason: error.to_string(),
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(executors)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Completion, Rejected, Slot, Waker};

    /// Counts itself by the handles on its token.
    struct Idle {
        _token: Arc<()>,
    }

    impl Executor for Idle {
        fn take_slot(&mut self) -> Option<Slot> {
            None
        }

        fn enqueue(&mut self, _: Slot) -> Result<(), Box<Rejected>> {
            Ok(())
        }

        fn poll(&mut self) -> Option<Completion> {
            None
        }

        fn wake_with(&mut self, _: Waker) {}
    }

    fn make(token: &Arc<()>, room: usize, problem: fn() -> Error) -> Result<Vec<Box<dyn Executor>>> {
        make_all(4, |stream| {
            if stream < room { Ok(Box::new(Idle { _token: Arc::clone(token) })) } else { Err(problem()) }
        })
    }

    fn out_of_memory() -> Error {
        let name = Some("CUDA_ERROR_OUT_OF_MEMORY".to_owned());
        Error::Nvidia(thalweg_nvidia::Error::Status { function: "cuMemAlloc_v2", code: 2, name })
    }

    #[test]
    fn out_of_memory_at_the_third_leaves_two_that_fit_and_nothing_behind() {
        let token = Arc::new(());
        assert_eq!(make(&token, 4, out_of_memory).map(|all| all.len()).unwrap(), 4);
        let error = make(&token, 2, out_of_memory).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::DoesNotFit { streams: 4, fits: 2, .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("4 streams do not fit into the device's memory, 2 do: cuMemAlloc"),
            "{text}"
        );
        assert!(text.contains("CUDA_ERROR_OUT_OF_MEMORY"), "{text}");
        assert_eq!(Arc::strong_count(&token), 1);
    }

    #[test]
    fn other_errors_are_passed_on() {
        let error = make(&Arc::new(()), 1, || Error::Stopped).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Stopped), "{error}");
    }
}
