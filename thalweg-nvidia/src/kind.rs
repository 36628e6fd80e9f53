//! The libraries that are looked for: what their files are called and how to get them.

use std::fmt;

use serde::Serialize;

/// One of NVIDIA's libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LibraryKind {
    /// The CUDA driver.
    CudaDriver,
    /// The NVIDIA Management Library: clocks, power, utilisation.
    Nvml,
    /// The CUDA Profiling Tools Interface: traces and counters.
    Cupti,
    /// TensorRT with its builder.
    #[serde(rename = "tensorrt")]
    TensorRt,
    /// Layers of TensorRT's that its own library does not have.
    #[serde(rename = "tensorrt_plugins")]
    TensorRtPlugins,
    /// TensorRT's parser of ONNX files.
    OnnxParser,
    /// TensorRT for RTX, which compiles for the GPU at run time and runs on consumer cards only.
    #[serde(rename = "tensorrt_rtx")]
    TensorRtRtx,
    /// The parser of ONNX files for [`TensorRtRtx`](Self::TensorRtRtx).
    OnnxParserRtx,
    /// TensorRT without its builder: it runs version-compatible engines that were built elsewhere.
    #[serde(rename = "tensorrt_lean")]
    TensorRtLean,
}

impl LibraryKind {
    /// All of them, those first that others need.
    pub const ALL: [Self; 9] = [
        Self::CudaDriver,
        Self::Nvml,
        Self::Cupti,
        Self::TensorRt,
        Self::TensorRtPlugins,
        Self::OnnxParser,
        Self::TensorRtRtx,
        Self::OnnxParserRtx,
        Self::TensorRtLean,
    ];

    /// What NVIDIA calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CudaDriver => "CUDA driver",
            Self::Nvml => "NVML",
            Self::Cupti => "CUPTI",
            Self::TensorRt => "TensorRT",
            Self::TensorRtPlugins => "TensorRT's plugins",
            Self::OnnxParser => "TensorRT's ONNX parser",
            Self::TensorRtRtx => "TensorRT for RTX",
            Self::OnnxParserRtx => "ONNX parser of TensorRT for RTX",
            Self::TensorRtLean => "TensorRT lean runtime",
        }
    }

    /// Its possible file names, newest first. The number behind `.so.` is the major version of its ABI.
    pub const fn sonames(self) -> &'static [&'static str] {
        match self {
            Self::CudaDriver => &["libcuda.so.1"],
            Self::Nvml => &["libnvidia-ml.so.1"],
            Self::Cupti => &["libcupti.so.13", "libcupti.so.12", "libcupti.so.11"],
            Self::TensorRt => &["libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8"],
            Self::TensorRtPlugins => {
                &["libnvinfer_plugin.so.11", "libnvinfer_plugin.so.10", "libnvinfer_plugin.so.8"]
            }
            Self::OnnxParser => &["libnvonnxparser.so.11", "libnvonnxparser.so.10", "libnvonnxparser.so.8"],
            Self::TensorRtRtx => &["libtensorrt_rtx.so.1"],
            Self::OnnxParserRtx => &["libtensorrt_onnxparser_rtx.so.1"],
            Self::TensorRtLean => &["libnvinfer_lean.so.11", "libnvinfer_lean.so.10", "libnvinfer_lean.so.8"],
        }
    }

    /// A function that every version of it exports; its address tells where the library was loaded from.
    pub(crate) const fn landmark(self) -> &'static str {
        match self {
            Self::CudaDriver => "cuDriverGetVersion",
            Self::Nvml => "nvmlSystemGetDriverVersion",
            Self::Cupti => "cuptiGetVersion",
            Self::TensorRt | Self::TensorRtRtx | Self::TensorRtLean => "getInferLibVersion",
            Self::TensorRtPlugins => "initLibNvInferPlugins",
            Self::OnnxParser | Self::OnnxParserRtx => "createNvOnnxParser_INTERNAL",
        }
    }

    /// How to get it, as the rest of a sentence.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::CudaDriver => {
                "install the NVIDIA driver of this machine's GPU, or start the container with its GPUs (docker run --gpus all)"
            }
            Self::Nvml => {
                "it comes with the NVIDIA driver (Debian: package libnvidia-ml1); a container needs the driver capability `utility`"
            }
            Self::Cupti => {
                "install CUPTI of the driver's CUDA version or an older one, from the CUDA toolkit or with `pip install nvidia-cuda-cupti`"
            }
            Self::TensorRt => {
                "install TensorRT 8.5 or newer from https://developer.nvidia.com/tensorrt or with `pip install tensorrt`, and name its folder if it is in none of these"
            }
            Self::TensorRtPlugins => {
                "it is needed for models with plugins such as NMS only, and is a part of TensorRT: install the same version of it (Debian: package libnvinfer-plugin10)"
            }
            Self::OnnxParser => {
                "it is a part of TensorRT: install the same version of it (Debian: package libnvonnxparsers10)"
            }
            Self::TensorRtRtx | Self::OnnxParserRtx => {
                "it is needed for consumer RTX cards only: `pip install tensorrt-rtx-cu13-libs`, and name the site-packages folder"
            }
            Self::TensorRtLean => {
                "it is needed for machines without the full TensorRT only: `pip install tensorrt-lean-cu13-libs`, and name the site-packages folder"
            }
        }
    }
}

/// What NVIDIA calls it.
impl fmt::Display for LibraryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
