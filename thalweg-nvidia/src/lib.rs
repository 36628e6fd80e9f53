//! TensorRT, CUDA, NVML and CUPTI, found and loaded at run time.
