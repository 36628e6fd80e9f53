//! The execution pool.

mod configuration;

pub use configuration::Configuration;
