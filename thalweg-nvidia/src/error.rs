//! What can go wrong between this program and NVIDIA's libraries, as facts.

use std::path::PathBuf;

use crate::kind::LibraryKind;

/// The result of a fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can fail in this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A library is in none of the places.
    #[error("{library} is not there: no {} in {}; {}", sonames.join(" or "), searched.join(", "), library.remedy())]
    NotFound {
        /// The library.
        library: LibraryKind,
        /// The file names that would have done.
        sonames: Vec<&'static str>,
        /// The places that were searched, in this order.
        searched: Vec<String>,
    },

    /// A library is there, but the loader refuses it.
    #[error("{library} cannot be loaded from {}: {reason}", path.display())]
    CannotLoad {
        /// The library.
        library: LibraryKind,
        /// The file, or its bare name where the loader found it by itself.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },

    /// A library lacks a function, most often because it is too old or a stub.
    #[error("{} has no function {symbol}: it may be of another version, or a stub", path.display())]
    MissingSymbol {
        /// The library.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },

    /// A function of a library failed.
    #[error("{function} failed with status {code}{}", in_brackets(name.as_ref()))]
    Status {
        /// The function.
        function: &'static str,
        /// The number that it returned.
        code: i32,
        /// What the library calls this number, where it knows it.
        name: Option<String>,
    },
}

fn in_brackets(name: Option<&String>) -> String {
    name.map(|name| format!(" ({name})")).unwrap_or_default()
}
