//! The execution pool.

mod configuration;
pub mod scheduler;

pub use configuration::Configuration;
