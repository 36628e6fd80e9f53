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
    /// What it does not reach; `None` where nothing is left out, and in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caveat: Option<String>,
}

impl fmt::Display for RouteTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.route {
            Route::Flags => "by a flag of the builder",
            Route::Onnx => "by converting the model",
        };
        write!(f, "{way}, since {}", self.reason)?;
        self.caveat.iter().try_for_each(|caveat| write!(f, "; {caveat}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_way_does_not_reach_is_told_behind_its_reason_and_kept_in_files() {
        let caveat = Some("fp32 is a wish".to_owned());
        let taken = RouteTaken { route: Route::Onnx, reason: "that was asked for".to_owned(), caveat };
        let told = "by converting the model, since that was asked for; fp32 is a wish";
        assert_eq!(taken.to_string(), told);
        let json = serde_json::to_string(&taken).unwrap();
        assert_eq!(serde_json::from_str::<RouteTaken>(&json).unwrap(), taken);
        // Files of earlier versions have none.
        let earlier: RouteTaken =
            serde_json::from_str(r#"{"route": "onnx", "reason": "that was asked for"}"#).unwrap();
        assert_eq!(earlier, RouteTaken { caveat: None, ..taken });
    }
}
