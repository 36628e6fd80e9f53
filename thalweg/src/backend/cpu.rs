//! The `cpu` backend: real inference with rten.
