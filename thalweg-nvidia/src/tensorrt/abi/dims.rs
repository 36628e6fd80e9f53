//! The two layouts of a shape: TensorRT 8 counts in 32 bits, all later versions in 64.

use std::ffi::c_void;
use std::ptr;

use super::{Abi, Family};
use crate::error::{Error, Result};

/// `Dims::MAX_DIMS` of every version.
const MAX_DIMS: usize = 8;

/// `nvinfer1::Dims32`: 36 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Dims32 {
    count: i32,
    sizes: [i32; MAX_DIMS],
}

/// `nvinfer1::Dims64`: 72 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Dims64 {
    count: i32,
    sizes: [i64; MAX_DIMS],
}

/// A shape in the layout of one version. It is passed by address (`Dims const&`), except that the `setDimensions`
/// methods of TensorRT 8 take it by value.
pub(crate) enum Dims {
    Narrow(Dims32),
    Wide(Dims64),
}

impl Dims {
    /// # Errors
    /// [`Error::ShapeDoesNotFit`] for more than eight dimensions, and for sizes that this version cannot
    /// hold.
    pub(crate) fn new(abi: Abi, shape: &[i64]) -> Result<Self> {
        let does_not_fit = || Error::ShapeDoesNotFit { shape: shape.to_vec() };
        let count = i32::try_from(shape.len()).map_err(|_| does_not_fit())?;
        if shape.len() > MAX_DIMS {
            return Err(does_not_fit());
        }
        if abi.family != Family::TensorRt8 {
            let mut sizes = [0; MAX_DIMS];
            sizes[..shape.len()].copy_from_slice(shape);
            return Ok(Self::Wide(Dims64 { count, sizes }));
        }
        let mut sizes = [0; MAX_DIMS];
        for (narrow, size) in sizes.iter_mut().zip(shape) {
            *narrow = i32::try_from(*size).map_err(|_| does_not_fit())?;
        }
        Ok(Self::Narrow(Dims32 { count, sizes }))
    }

    /// Where TensorRT reads it.
    pub(crate) fn as_ptr(&self) -> *const c_void {
        match self {
            Self::Narrow(dims) => ptr::from_ref(dims).cast(),
            Self::Wide(dims) => ptr::from_ref(dims).cast(),
        }
    }
}

/// `None` where TensorRT marks the shape as unknown by a negative count.
impl From<Dims32> for Option<Vec<i64>> {
    fn from(dims: Dims32) -> Self {
        let count = usize::try_from(dims.count).ok()?.min(MAX_DIMS);
        Some(dims.sizes[..count].iter().copied().map(i64::from).collect())
    }
}

/// `None` where TensorRT marks the shape as unknown by a negative count.
impl From<Dims64> for Option<Vec<i64>> {
    fn from(dims: Dims64) -> Self {
        let count = usize::try_from(dims.count).ok()?.min(MAX_DIMS);
        Some(dims.sizes[..count].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    fn abi(family: Family) -> Abi {
        Abi { family, version: Version { major: 0, minor: 0, patch: None } }
    }

    #[test]
    fn the_layouts_have_the_sizes_of_nvidias() {
        assert_eq!(size_of::<Dims32>(), 36);
        assert_eq!(size_of::<Dims64>(), 72);
    }

    #[test]
    fn a_shape_survives_both_layouts() {
        let shape = [-1, 3, 224, 224];
        for family in Family::ALL {
            let back: Option<Vec<i64>> = match Dims::new(abi(family), &shape).unwrap() {
                Dims::Narrow(dims) => dims.into(),
                Dims::Wide(dims) => dims.into(),
            };
            assert_eq!(back.unwrap(), shape);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_not_cut() {
        let long = [1; 9];
        assert!(matches!(Dims::new(abi(Family::TensorRt10), &long), Err(Error::ShapeDoesNotFit { .. })));
        let wide = [1 << 40];
        assert!(matches!(Dims::new(abi(Family::TensorRt8), &wide), Err(Error::ShapeDoesNotFit { .. })));
        assert!(Dims::new(abi(Family::TensorRt10), &wide).is_ok());
    }

    #[test]
    fn a_negative_count_is_no_shape() {
        let unknown: Option<Vec<i64>> = Dims64 { count: -1, sizes: [0; 8] }.into();
        assert_eq!(unknown, None);
    }
}
