//! TensorRT's binary interface, without its headers: which method is where in which version.
//!
//! In: an open [`Library`]. Out: its [`Abi`], which finds the place of a [`Method`] in a vtable or says that
//! this version has none. `tables` holds the places and is generated; `calls` holds the signatures and is
//! written by hand; `dims` holds the two layouts of a shape. docs/abi.md explains all of it.

pub(crate) mod calls;
mod dims;
mod tables;
#[cfg(test)]
mod tests;

use std::ffi::c_void;
use std::fmt;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::kind::LibraryKind;
use crate::library::Library;
use crate::version::{self, Version};

pub(crate) use dims::{Dims, Dims32, Dims64};

/// Versions of TensorRT whose vtables agree, newer ones only appending to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// TensorRT 8.5 and 8.6.
    TensorRt8,
    /// TensorRT 10.
    TensorRt10,
    /// TensorRT 11.
    TensorRt11,
    /// TensorRT for RTX, 1.5 and later.
    Rtx1,
}

/// What the tables know, in words, for the error of an unknown version.
const SUPPORTED: &str =
    "TensorRT 8.5 to 8.6, 10.0 to 10.16 and 11.0 to 11.4, and TensorRT for RTX 1.5 to 1.7";

impl Family {
    /// All of them, in the order of the tables' columns.
    pub(crate) const ALL: [Self; 4] = [Self::TensorRt8, Self::TensorRt10, Self::TensorRt11, Self::Rtx1];

    /// The family of a version, `None` where no table is true of it. Newer minor versions than the tables
    /// know belong to the family: NVIDIA has only ever appended to it.
    fn of(kind: LibraryKind, version: Version) -> Option<Self> {
        let is_rtx = kind == LibraryKind::TensorRtRtx;
        let mut families = Self::ALL.into_iter();
        families.find(|family| {
            family.is_rtx() == is_rtx
                && family.major() == version.major
                && version.minor >= family.oldest_minor()
        })
    }

    fn is_rtx(self) -> bool {
        self == Self::Rtx1
    }

    const fn major(self) -> u32 {
        match self {
            Self::TensorRt8 => 8,
            Self::TensorRt10 => 10,
            Self::TensorRt11 => 11,
            Self::Rtx1 => 1,
        }
    }

    /// Oldest minor version with this layout. 8.4 has no `enqueueV3`; RTX 1.4 has a layout of its own.
    const fn oldest_minor(self) -> u32 {
        match self {
            Self::TensorRt8 | Self::Rtx1 => 5,
            Self::TensorRt10 | Self::TensorRt11 => 0,
        }
    }

    /// Newest minor version whose headers the tables were made from.
    const fn newest_minor(self) -> u32 {
        match self {
            Self::TensorRt8 => 6,
            Self::TensorRt10 => 16,
            Self::TensorRt11 => 4,
            Self::Rtx1 => 7,
        }
    }
}

/// `Weights` of NvInferRuntime.h, the same in every version, passed by value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightsView {
    pub(crate) data_type: i32,
    pub(crate) values: *const c_void,
    /// Elements, not bytes.
    pub(crate) count: i64,
}

/// The interface of one opened TensorRT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abi {
    pub(crate) family: Family,
    pub(crate) version: Version,
}

impl Abi {
    /// # Errors
    /// [`Error::UnsupportedTensorRt`] where no table is true of this version.
    pub(crate) fn of(library: &Library) -> Result<Self> {
        let version = version::tensorrt(library)?;
        let family = Family::of(library.kind(), version).ok_or_else(|| Error::UnsupportedTensorRt {
            library: library.kind(),
            version,
            path: library.path().to_owned(),
            supported: SUPPORTED,
        })?;
        Ok(Self { family, version })
    }

    /// What to tell about a version newer than the tables.
    pub(crate) fn note(self) -> Option<String> {
        let known = (self.family.major(), self.family.newest_minor());
        (self.version.minor > known.1).then(|| {
            format!(
                "version {} is newer than {}.{}, the newest whose interface is known here; that one is used, because \
                 NVIDIA only appends to it",
                self.version, known.0, known.1
            )
        })
    }

    /// Whether this version has a method.
    pub(crate) fn has(self, method: &Method) -> bool {
        self.entry(method).is_ok()
    }

    /// Place of a method in the vtable that it is called through.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] where it has none.
    pub(crate) fn entry(self, method: &Method) -> Result<usize> {
        let slot = method.slots[self.family as usize];
        let present = slot.filter(|slot| slot.since <= self.version.minor);
        let slot = present.ok_or(Error::NotInThisVersion {
            method: method.name,
            version: self.version,
            since: slot.map(|slot| (self.family.major(), slot.since)),
        })?;
        Ok(method.reach.first_entry() + usize::from(slot.place))
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.family.is_rtx() { "TensorRT for RTX" } else { "TensorRT" };
        write!(f, "{name} {}", self.version)
    }
}

/// A virtual method of TensorRT's, with its place in each family.
pub(crate) struct Method {
    /// What NVIDIA's documentation calls it.
    name: &'static str,
    reach: Reach,
    /// In the order of [`Family::ALL`].
    slots: [Option<Slot>; Family::ALL.len()],
}

impl Method {
    /// Whether it is called through the object's own vtable.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.reach, Reach::Direct)
    }
}

/// How an object's methods are reached.
#[derive(Clone, Copy)]
enum Reach {
    /// Through the implementation that the object points to behind its own vtable pointer (`mImpl`).
    Behind,
    /// Through the object's own vtable: the ONNX parser, its errors, and the registry of plugins.
    Direct,
}

impl Reach {
    /// Entries of the vtable in front of slot 0: `VRoot`, base of all implementations, has a virtual
    /// destructor, which takes two entries (Itanium C++ ABI, 2.5.2).
    const fn first_entry(self) -> usize {
        match self {
            Self::Behind => 2,
            Self::Direct => 0,
        }
    }
}

/// A place in a vtable.
#[derive(Clone, Copy)]
struct Slot {
    place: u16,
    /// First minor version of the family that has the method there.
    since: u32,
}

const NONE: Option<Slot> = None;

const fn at(place: u16, since: u32) -> Option<Slot> {
    Some(Slot { place, since })
}

const fn behind(name: &'static str, slots: [Option<Slot>; 4]) -> Method {
    Method { name, reach: Reach::Behind, slots }
}

const fn direct(name: &'static str, slots: [Option<Slot>; 4]) -> Method {
    Method { name, reach: Reach::Direct, slots }
}
