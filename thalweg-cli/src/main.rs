//! The binary `thalweg`.
#![forbid(unsafe_code)]

fn main() {}
