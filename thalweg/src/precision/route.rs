//! How a lower precision reaches a builder, as plain data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A way for a lower precision to reach a builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// As a flag: the builder chooses which layers compute in it.
    Flags,
    /// In the model, which is converted and says so itself.
    Onnx,
}

/// The way that was taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTaken {
    /// The way.
    pub route: Route,
    /// Why this one.
    pub reason: String,
}

impl fmt::Display for RouteTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.route {
            Route::Flags => "by a flag of the builder",
            Route::Onnx => "by converting the model",
        };
        write!(f, "{way}, since {}", self.reason)
    }
}
