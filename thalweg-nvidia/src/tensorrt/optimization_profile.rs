//! `IOptimizationProfile`: which shapes an engine is built for.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;

use super::abi::{Dims, calls};
use super::object::{Object, Owned, c_string};
use crate::error::Result;

/// The shapes of one input: an engine runs all between `min` and `max`, and is fastest at `opt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShapeRange {
    /// The smallest size of each dimension.
    pub min: Vec<i64>,
    /// The sizes that kernels are chosen for.
    pub opt: Vec<i64>,
    /// The largest size of each dimension.
    pub max: Vec<i64>,
}

impl ShapeRange {
    /// One shape and no other.
    pub fn fixed(shape: &[i64]) -> Self {
        Self { min: shape.to_vec(), opt: shape.to_vec(), max: shape.to_vec() }
    }
}

/// Which shapes an engine is built for: one range for each input with open dimensions.
#[doc(alias = "IOptimizationProfile")]
pub struct OptimizationProfile {
    object: Object,
    // The builder deletes its profiles.
    builder: Arc<Owned>,
    ranges: Vec<(String, ShapeRange)>,
    _on_one_thread: PhantomData<*const ()>,
}

impl OptimizationProfile {
    /// `object` is a profile of this builder's.
    pub(crate) fn new(object: Object, builder: Arc<Owned>) -> Self {
        Self { object, builder, ranges: Vec::new(), _on_one_thread: PhantomData }
    }

    pub(crate) fn object(&self) -> Object {
        self.object
    }

    /// The shapes that were set.
    pub fn ranges(&self) -> &[(String, ShapeRange)] {
        &self.ranges
    }

    /// Sets the shapes of an input. TensorRT checks the name when it builds.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) where they are not in order,
    /// [`Error::ShapeDoesNotFit`](crate::Error::ShapeDoesNotFit) for more than eight dimensions.
    #[doc(alias = "setDimensions")]
    pub fn set_shapes(&mut self, input: &str, range: ShapeRange) -> Result<()> {
        let name = c_string(input)?;
        // `OptProfileSelector`: kMIN, kOPT, kMAX.
        for (selector, shape) in [(0, &range.min), (1, &range.opt), (2, &range.max)] {
            let dims = Dims::new(self.object.abi(), shape)?;
            self.builder.agree("take the shapes of a profile", |_| {
                // SAFETY: the profile lives as long as its builder; name and dims live, and it copies both.
                unsafe {
                    calls::optimization_profile::set_dimensions(
                        self.object,
                        name.as_ptr(),
                        selector,
                        dims.as_ptr(),
                    )
                }
            })?;
        }
        self.ranges.retain(|(known, _)| known != input);
        self.ranges.push((input.to_owned(), range));
        Ok(())
    }
}
