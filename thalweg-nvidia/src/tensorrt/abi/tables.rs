//! Which place each method has in its vtable: written by scripts/abi-tables.py from abi/*.tsv, not by hand.
//!
//! One column per family, in the order of [`Family`](super::Family); `at(slot, minor)` says since when.

// rustfmt would put each method on six lines.
#![cfg_attr(rustfmt, rustfmt_skip)]

use super::{Method, NONE, at, behind, direct};

pub mod runtime {
    use super::*;

    pub const DESERIALIZE_CUDA_ENGINE: Method = behind("IRuntime::deserializeCudaEngine", [at(0, 5), at(1, 0), at(1, 0), at(1, 5)]);
    pub const SET_GPU_ALLOCATOR: Method = behind("IRuntime::setGpuAllocator", [at(4, 5), at(6, 0), at(5, 0), at(5, 5)]);
    pub const SET_ERROR_RECORDER: Method = behind("IRuntime::setErrorRecorder", [at(5, 5), at(7, 0), at(6, 0), at(6, 5)]);
    pub const SET_ENGINE_HOST_CODE_ALLOWED: Method = behind("IRuntime::setEngineHostCodeAllowed", [at(18, 6), at(19, 0), at(18, 0), at(18, 5)]);
}

pub mod cuda_engine {
    use super::*;

    pub const GET_NB_LAYERS: Method = behind("ICudaEngine::getNbLayers", [at(7, 5), at(1, 0), at(1, 0), at(1, 5)]);
    pub const GET_NB_IO_TENSORS: Method = behind("ICudaEngine::getNbIOTensors", [at(43, 5), at(28, 0), at(24, 0), at(24, 5)]);
    pub const GET_IO_TENSOR_NAME: Method = behind("ICudaEngine::getIOTensorName", [at(44, 5), at(29, 0), at(25, 0), at(25, 5)]);
    pub const GET_TENSOR_IO_MODE: Method = behind("ICudaEngine::getTensorIOMode", [at(36, 5), at(21, 0), at(17, 0), at(17, 5)]);
    pub const GET_TENSOR_DATA_TYPE: Method = behind("ICudaEngine::getTensorDataType", [at(33, 5), at(18, 0), at(14, 0), at(14, 5)]);
    pub const GET_TENSOR_LOCATION: Method = behind("ICudaEngine::getTensorLocation", [at(34, 5), at(19, 0), at(15, 0), at(15, 5)]);
    pub const GET_NB_OPTIMIZATION_PROFILES: Method = behind("ICudaEngine::getNbOptimizationProfiles", [at(20, 5), at(8, 0), at(6, 0), at(6, 5)]);
    pub const GET_DEVICE_MEMORY_SIZE: Method = behind("ICudaEngine::getDeviceMemorySize", [at(12, 5), at(5, 0), NONE, NONE]);
    pub const GET_DEVICE_MEMORY_SIZE_FOR_PROFILE: Method = behind("ICudaEngine::getDeviceMemorySizeForProfile", [NONE, at(39, 0), NONE, NONE]);
    pub const GET_DEVICE_MEMORY_SIZE_FOR_PROFILE_V2: Method = behind("ICudaEngine::getDeviceMemorySizeForProfileV2", [NONE, at(51, 1), at(43, 0), at(43, 5)]);
    pub const CREATE_EXECUTION_CONTEXT: Method = behind("ICudaEngine::createExecutionContext", [at(9, 5), at(3, 0), at(3, 0), at(3, 5)]);
    pub const CREATE_EXECUTION_CONTEXT_WITHOUT_DEVICE_MEMORY: Method = behind("ICudaEngine::createExecutionContextWithoutDeviceMemory", [at(11, 5), at(4, 0), NONE, NONE]);
    pub const CREATE_ENGINE_INSPECTOR: Method = behind("ICudaEngine::createEngineInspector", [at(31, 5), at(16, 0), at(12, 0), at(12, 5)]);
    pub const SET_ERROR_RECORDER: Method = behind("ICudaEngine::setErrorRecorder", [at(26, 5), at(11, 0), at(8, 0), at(8, 5)]);
    pub const GET_NB_AUX_STREAMS: Method = behind("ICudaEngine::getNbAuxStreams", [at(47, 6), at(31, 0), at(27, 0), at(27, 5)]);
    pub const GET_TENSOR_SHAPE: Method = behind("ICudaEngine::getTensorShape", [at(32, 5), at(17, 0), at(13, 0), at(13, 5)]);
    pub const GET_PROFILE_SHAPE: Method = behind("ICudaEngine::getProfileShape", [at(42, 5), at(27, 0), at(23, 0), at(23, 5)]);
    pub const IS_REFITTABLE: Method = behind("ICudaEngine::isRefittable", [at(13, 5), at(6, 0), at(4, 0), at(4, 5)]);
    pub const CREATE_RUNTIME_CONFIG: Method = behind("ICudaEngine::createRuntimeConfig", [NONE, at(54, 11), at(46, 0), at(46, 5)]);
    pub const CREATE_EXECUTION_CONTEXT_WITH_RUNTIME_CONFIG: Method = behind("ICudaEngine::createExecutionContextWithRuntimeConfig", [NONE, at(53, 11), at(45, 0), at(45, 5)]);
    pub const GET_TENSOR_FORMAT: Method = behind("ICudaEngine::getTensorFormat", [at(39, 5), at(24, 0), at(20, 0), at(20, 5)]);
}

pub mod execution_context {
    use super::*;

    pub const SET_PROFILER: Method = behind("IExecutionContext::setProfiler", [at(4, 5), at(3, 0), at(3, 0), at(3, 5)]);
    pub const SET_DEVICE_MEMORY: Method = behind("IExecutionContext::setDeviceMemory", [at(9, 5), at(8, 0), at(8, 0), at(8, 5)]);
    pub const SET_DEVICE_MEMORY_V2: Method = behind("IExecutionContext::setDeviceMemoryV2", [NONE, at(47, 1), at(46, 0), at(46, 5)]);
    pub const SET_ERROR_RECORDER: Method = behind("IExecutionContext::setErrorRecorder", [at(19, 5), at(12, 0), at(11, 0), at(11, 5)]);
    pub const SET_OPTIMIZATION_PROFILE_ASYNC: Method = behind("IExecutionContext::setOptimizationProfileAsync", [at(23, 5), at(15, 0), at(14, 0), at(14, 5)]);
    pub const SET_INPUT_SHAPE: Method = behind("IExecutionContext::setInputShape", [at(27, 5), at(19, 0), at(18, 0), at(18, 5)]);
    pub const SET_TENSOR_ADDRESS: Method = behind("IExecutionContext::setTensorAddress", [at(30, 5), at(22, 0), at(21, 0), at(21, 5)]);
    pub const INFER_SHAPES: Method = behind("IExecutionContext::inferShapes", [at(33, 5), at(26, 0), at(25, 0), at(25, 5)]);
    pub const GET_MAX_OUTPUT_SIZE: Method = behind("IExecutionContext::getMaxOutputSize", [at(39, 5), at(32, 0), at(31, 0), at(31, 5)]);
    pub const ENQUEUE_V3: Method = behind("IExecutionContext::enqueueV3", [at(42, 5), at(35, 0), at(34, 0), at(34, 5)]);
    pub const GET_TENSOR_SHAPE: Method = behind("IExecutionContext::getTensorShape", [at(28, 5), at(20, 0), at(19, 0), at(19, 5)]);
    pub const SET_OUTPUT_ALLOCATOR: Method = behind("IExecutionContext::setOutputAllocator", [at(37, 5), at(30, 0), at(29, 0), at(29, 5)]);
    pub const SET_NVTX_VERBOSITY: Method = behind("IExecutionContext::setNvtxVerbosity", [at(45, 5), at(38, 0), at(37, 0), at(37, 5)]);
}

pub mod runtime_config {
    use super::*;

    pub const SET_EXECUTION_CONTEXT_ALLOCATION_STRATEGY: Method = behind("IRuntimeConfig::setExecutionContextAllocationStrategy", [NONE, at(1, 11), at(1, 0), at(1, 5)]);
    pub const SET_DYNAMIC_SHAPES_KERNEL_SPECIALIZATION_STRATEGY: Method = behind("IRuntimeConfig::setDynamicShapesKernelSpecializationStrategy", [NONE, NONE, NONE, at(6, 5)]);
    pub const SET_CUDA_GRAPH_STRATEGY: Method = behind("IRuntimeConfig::setCudaGraphStrategy", [NONE, NONE, NONE, at(8, 5)]);
}

pub mod refitter {
    use super::*;

    pub const REFIT_CUDA_ENGINE: Method = behind("IRefitter::refitCudaEngine", [at(1, 5), at(2, 0), at(2, 0), at(2, 5)]);
    pub const SET_ERROR_RECORDER: Method = behind("IRefitter::setErrorRecorder", [at(8, 5), at(9, 0), at(5, 0), at(5, 5)]);
    pub const SET_NAMED_WEIGHTS: Method = behind("IRefitter::setNamedWeights", [at(10, 5), at(11, 0), at(7, 0), at(7, 5)]);
    pub const GET_MISSING_WEIGHTS: Method = behind("IRefitter::getMissingWeights", [at(11, 5), at(12, 0), at(8, 0), at(8, 5)]);
    pub const GET_ALL_WEIGHTS: Method = behind("IRefitter::getAllWeights", [at(12, 5), at(13, 0), at(9, 0), at(9, 5)]);
}

pub mod engine_inspector {
    use super::*;

    pub const GET_LAYER_INFORMATION: Method = behind("IEngineInspector::getLayerInformation", [at(2, 5), at(3, 0), at(3, 0), at(3, 5)]);
    pub const GET_ENGINE_INFORMATION: Method = behind("IEngineInspector::getEngineInformation", [at(3, 5), at(4, 0), at(4, 0), at(4, 5)]);
    pub const SET_ERROR_RECORDER: Method = behind("IEngineInspector::setErrorRecorder", [at(4, 5), at(5, 0), at(5, 0), at(5, 5)]);
}

pub mod host_memory {
    use super::*;

    pub const DATA: Method = behind("IHostMemory::data", [at(0, 5), at(0, 0), at(0, 0), at(0, 5)]);
    pub const SIZE: Method = behind("IHostMemory::size", [at(1, 5), at(1, 0), at(1, 0), at(1, 5)]);
}

pub mod builder {
    use super::*;

    pub const SET_GPU_ALLOCATOR: Method = behind("IBuilder::setGpuAllocator", [at(6, 5), at(4, 0), at(2, 0), at(2, 5)]);
    pub const CREATE_BUILDER_CONFIG: Method = behind("IBuilder::createBuilderConfig", [at(7, 5), at(5, 0), at(3, 0), at(3, 5)]);
    pub const CREATE_NETWORK_V2: Method = behind("IBuilder::createNetworkV2", [at(9, 5), at(6, 0), at(4, 0), at(4, 5)]);
    pub const CREATE_OPTIMIZATION_PROFILE: Method = behind("IBuilder::createOptimizationProfile", [at(10, 5), at(7, 0), at(5, 0), at(5, 5)]);
    pub const BUILD_SERIALIZED_NETWORK: Method = behind("IBuilder::buildSerializedNetwork", [at(15, 5), at(12, 0), at(9, 0), at(9, 5)]);
    pub const SET_ERROR_RECORDER: Method = behind("IBuilder::setErrorRecorder", [at(11, 5), at(8, 0), at(6, 0), at(6, 5)]);
}

pub mod builder_config {
    use super::*;

    pub const SET_FLAG: Method = behind("IBuilderConfig::setFlag", [at(13, 5), at(9, 0), at(7, 0), at(7, 5)]);
    pub const CLEAR_FLAG: Method = behind("IBuilderConfig::clearFlag", [at(12, 5), at(8, 0), at(6, 0), at(6, 5)]);
    pub const GET_FLAG: Method = behind("IBuilderConfig::getFlag", [at(14, 5), at(10, 0), at(8, 0), at(8, 5)]);
    pub const SET_MEMORY_POOL_LIMIT: Method = behind("IBuilderConfig::setMemoryPoolLimit", [at(45, 5), at(41, 0), at(30, 0), at(30, 5)]);
    pub const GET_MEMORY_POOL_LIMIT: Method = behind("IBuilderConfig::getMemoryPoolLimit", [at(46, 5), at(42, 0), at(31, 0), at(31, 5)]);
    pub const SET_PROFILING_VERBOSITY: Method = behind("IBuilderConfig::setProfilingVerbosity", [at(29, 5), at(25, 0), at(23, 0), at(23, 5)]);
    pub const ADD_OPTIMIZATION_PROFILE: Method = behind("IBuilderConfig::addOptimizationProfile", [at(27, 5), at(23, 0), at(21, 0), at(21, 5)]);
    pub const SET_CALIBRATION_PROFILE: Method = behind("IBuilderConfig::setCalibrationProfile", [at(33, 5), at(29, 0), NONE, NONE]);
    pub const SET_INT8_CALIBRATOR: Method = behind("IBuilderConfig::setInt8Calibrator", [at(6, 5), at(4, 0), NONE, NONE]);
    pub const CREATE_TIMING_CACHE: Method = behind("IBuilderConfig::createTimingCache", [at(42, 5), at(38, 0), at(27, 0), at(27, 5)]);
    pub const SET_TIMING_CACHE: Method = behind("IBuilderConfig::setTimingCache", [at(43, 5), at(39, 0), at(28, 0), at(28, 5)]);
    pub const SET_PREVIEW_FEATURE: Method = behind("IBuilderConfig::setPreviewFeature", [at(47, 5), at(43, 0), at(32, 0), at(32, 5)]);
    pub const SET_BUILDER_OPTIMIZATION_LEVEL: Method = behind("IBuilderConfig::setBuilderOptimizationLevel", [at(49, 6), at(45, 0), at(34, 0), at(34, 5)]);
    pub const SET_MAX_AUX_STREAMS: Method = behind("IBuilderConfig::setMaxAuxStreams", [at(56, 6), at(52, 0), at(41, 0), at(41, 5)]);
    pub const SET_PROGRESS_MONITOR: Method = behind("IBuilderConfig::setProgressMonitor", [NONE, at(54, 0), at(43, 0), at(43, 5)]);
    pub const SET_TACTIC_SOURCES: Method = behind("IBuilderConfig::setTacticSources", [at(40, 5), at(36, 0), at(25, 0), at(25, 5)]);
    pub const GET_TACTIC_SOURCES: Method = behind("IBuilderConfig::getTacticSources", [at(41, 5), at(37, 0), at(26, 0), at(26, 5)]);
}

pub mod network_definition {
    use super::*;

    pub const GET_NB_INPUTS: Method = behind("INetworkDefinition::getNbInputs", [at(17, 5), at(12, 0), at(12, 0), at(12, 5)]);
    pub const GET_INPUT: Method = behind("INetworkDefinition::getInput", [at(18, 5), at(13, 0), at(13, 0), at(13, 5)]);
    pub const GET_NB_OUTPUTS: Method = behind("INetworkDefinition::getNbOutputs", [at(19, 5), at(14, 0), at(14, 0), at(14, 5)]);
    pub const GET_OUTPUT: Method = behind("INetworkDefinition::getOutput", [at(20, 5), at(15, 0), at(15, 0), at(15, 5)]);
    pub const GET_NB_LAYERS: Method = behind("INetworkDefinition::getNbLayers", [at(15, 5), at(10, 0), at(10, 0), at(10, 5)]);
    pub const SET_ERROR_RECORDER: Method = behind("INetworkDefinition::setErrorRecorder", [at(51, 5), at(45, 0), at(44, 0), at(42, 5)]);
}

pub mod tensor {
    use super::*;

    pub const GET_NAME: Method = behind("ITensor::getName", [at(1, 5), at(1, 0), at(1, 0), at(1, 5)]);
    pub const SET_DIMENSIONS: Method = behind("ITensor::setDimensions", [at(2, 5), at(2, 0), at(2, 0), at(2, 5)]);
    pub const GET_TYPE: Method = behind("ITensor::getType", [at(5, 5), at(5, 0), at(4, 0), at(4, 5)]);
    pub const IS_SHAPE_TENSOR: Method = behind("ITensor::isShapeTensor", [at(19, 5), at(19, 0), at(13, 0), at(9, 5)]);
    pub const GET_DIMENSIONS: Method = behind("ITensor::getDimensions", [at(3, 5), at(3, 0), at(3, 0), at(3, 5)]);
}

pub mod optimization_profile {
    use super::*;

    pub const SET_DIMENSIONS: Method = behind("IOptimizationProfile::setDimensions", [at(0, 5), at(0, 0), at(0, 0), at(0, 5)]);
}

pub mod timing_cache {
    use super::*;

    pub const SERIALIZE: Method = behind("ITimingCache::serialize", [at(0, 5), at(0, 0), at(0, 0), at(0, 5)]);
}

pub mod parser {
    use super::*;

    pub const PARSE: Method = direct("IParser::parse", [at(0, 5), at(0, 0), at(0, 0), at(0, 5)]);
    pub const GET_NB_ERRORS: Method = direct("IParser::getNbErrors", [at(6, 5), at(5, 0), at(3, 0), at(3, 5)]);
    pub const GET_ERROR: Method = direct("IParser::getError", [at(7, 5), at(6, 0), at(4, 0), at(4, 5)]);
    pub const DELETE: Method = direct("IParser::delete", [at(10, 5), at(9, 0), at(7, 0), at(7, 5)]);
}

pub mod parser_error {
    use super::*;

    pub const CODE: Method = direct("IParserError::code", [at(0, 5), at(0, 0), at(0, 0), at(0, 5)]);
    pub const DESC: Method = direct("IParserError::desc", [at(1, 5), at(1, 0), at(1, 0), at(1, 5)]);
    pub const NODE: Method = direct("IParserError::node", [at(5, 5), at(5, 0), at(5, 0), at(5, 5)]);
    pub const NODE_NAME: Method = direct("IParserError::nodeName", [NONE, at(6, 0), at(6, 0), at(6, 5)]);
    pub const NODE_OPERATOR: Method = direct("IParserError::nodeOperator", [NONE, at(7, 0), at(7, 0), at(7, 5)]);
}

pub mod plugin_registry {
    use super::*;

    pub const LOAD_LIBRARY: Method = direct("IPluginRegistry::loadLibrary", [NONE, at(10, 0), at(6, 0), at(6, 5)]);
    pub const GET_ALL_CREATORS: Method = direct("IPluginRegistry::getAllCreators", [NONE, at(13, 0), at(9, 0), at(9, 5)]);
}
