//! Values as bytes of the file: little endian, one behind the other, nothing between.

use super::{Direction, HostMemory, NameId, StreamKind};

/// A value that can be written and read again.
pub(super) trait Stored: Sized {
    /// Puts its bytes behind others.
    fn put(&self, bytes: &mut Vec<u8>);

    /// Takes it off the front; `None` where there are too few bytes, or none that mean anything.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

/// Declares a plain record and how it is stored: its fields in order.
macro_rules! stored {
    ($(#[$about:meta])* $record:ident { $( $(#[$about_field:meta])* $field:ident : $type:ty, )* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $record {
            $( $(#[$about_field])* pub $field: $type, )*
        }

        impl $crate::activity::stored::Stored for $record {
            fn put(&self, bytes: &mut Vec<u8>) {
                $( self.$field.put(bytes); )*
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $( $field: $crate::activity::stored::Stored::take(bytes)?, )* })
            }
        }
    };
}

pub(super) use stored;

macro_rules! stored_numbers {
    ($($number:ty)*) => { $(
        impl Stored for $number {
            fn put(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (first, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*first))
            }
        }
    )* };
}

stored_numbers! { u8 u16 u32 u64 }

/// An enumeration is stored as the number of its variant.
macro_rules! stored_enums {
    ($($type:ident [ $($variant:ident)* ])*) => { $(
        impl Stored for $type {
            fn put(&self, bytes: &mut Vec<u8>) {
                bytes.push(*self as u8);
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let number = u8::take(bytes)?;
                [$(Self::$variant),*].into_iter().find(|variant| *variant as u8 == number)
            }
        }
    )* };
}

stored_enums! {
    Direction [H2d D2h D2d PeerToPeer Other]
    HostMemory [Pinned Pageable Other]
    StreamKind [Default Blocking NonBlocking Unknown]
}

impl Stored for NameId {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.0.put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        u32::take(bytes).map(Self)
    }
}

impl Stored for [u32; 3] {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.iter().for_each(|number| number.put(bytes));
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some([u32::take(bytes)?, u32::take(bytes)?, u32::take(bytes)?])
    }
}

/// Length in four bytes, then UTF-8. A text that is longer than that allows is cut.
impl Stored for String {
    fn put(&self, bytes: &mut Vec<u8>) {
        let length = u32::try_from(self.len()).unwrap_or(u32::MAX);
        length.put(bytes);
        bytes.extend_from_slice(&self.as_bytes()[..length as usize]);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let length = u32::take(bytes)? as usize;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}
