//! What a call of CUDA is for, by its name.

use serde::{Deserialize, Serialize};

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// It launches a kernel.
    Launch,
    /// It launches a CUDA graph.
    GraphLaunch,
    /// It copies or sets memory, or asks for that.
    Copy,
    /// It waits for the device.
    Synchronise,
    /// It prepares: memory, modules, graphs, streams.
    SetUp,
    /// Anything else.
    Other,
}

/// How names begin behind `cuda` or `cu`, the first that fits counts.
const BEGINNINGS: [(&str, CallKind); 18] = [
    ("LaunchHostFunc", CallKind::Other),
    ("Launch", CallKind::Launch),
    ("GraphLaunch", CallKind::GraphLaunch),
    ("Memcpy", CallKind::Copy),
    ("Memset", CallKind::Copy),
    ("Malloc", CallKind::SetUp),
    ("MemAlloc", CallKind::SetUp),
    ("Free", CallKind::SetUp),
    ("MemFree", CallKind::SetUp),
    ("HostAlloc", CallKind::SetUp),
    ("MemHostAlloc", CallKind::SetUp),
    ("HostRegister", CallKind::SetUp),
    ("MemHostRegister", CallKind::SetUp),
    ("ModuleLoad", CallKind::SetUp),
    ("LibraryLoad", CallKind::SetUp),
    ("Graph", CallKind::SetUp),
    ("StreamCreate", CallKind::SetUp),
    ("CtxCreate", CallKind::SetUp),
];

impl CallKind {
    /// The kind of the call of this name.
    pub fn of(name: &str) -> Self {
        let Some(rest) = name.strip_prefix("cuda").or_else(|| name.strip_prefix("cu")) else {
            return Self::Other;
        };
        if rest.contains("Synchronize") {
            return Self::Synchronise;
        }
        BEGINNINGS.iter().find(|(start, _)| rest.starts_with(start)).map_or(Self::Other, |(_, kind)| *kind)
    }

    /// Whether it gives the device something to do.
    pub fn gives_work(self) -> bool {
        matches!(self, Self::Launch | Self::GraphLaunch | Self::Copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_interfaces_say_what_a_call_is_for() {
        let cases = [
            ("cudaLaunchKernel", CallKind::Launch),
            ("cuLaunchKernelEx", CallKind::Launch),
            ("cudaLaunchHostFunc", CallKind::Other),
            ("cudaGraphLaunch", CallKind::GraphLaunch),
            ("cudaGraphInstantiate", CallKind::SetUp),
            ("cuMemcpyHtoDAsync", CallKind::Copy),
            ("cudaDeviceSynchronize", CallKind::Synchronise),
            ("cuCtxSynchronize", CallKind::Synchronise),
            ("cudaMalloc", CallKind::SetUp),
            ("cudaStreamWaitEvent", CallKind::Other),
            ("printf", CallKind::Other),
        ];
        for (name, kind) in cases {
            assert_eq!(CallKind::of(name), kind, "{name}");
        }
    }
}
