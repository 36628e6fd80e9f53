//! The signatures of the methods that Thalweg calls, one line each.
//!
//! Each line becomes `unsafe fn name(object, arguments) -> Result<result>`, which looks the method up in the
//! table of the object's version and calls it. The error is
//! [`NotInThisVersion`](crate::Error::NotInThisVersion).
//!
//! # Safety
//! The same for all of them:
//! - `object` is a living object of the class that the module is called after;
//! - the arguments are what NVIDIA documents for the method in every family that the tables give it;
//! - no other thread uses the object meanwhile, unless NVIDIA calls the method thread-safe.

use std::ffi::{c_char, c_void};
use std::mem;

use super::{Dims32, Dims64, Family, WeightsView, tables};
use crate::error::Result;
use crate::tensorrt::object::Object;

/// An object that TensorRT gives or takes by address.
pub(crate) type Pointer = *mut c_void;

macro_rules! calls {
    (@result) => { () };
    (@result $result:ty) => { $result };
    ($($class:ident {
        $(fn $name:ident = $method:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*
        $(shape fn $shape:ident = $shape_method:ident($($shape_argument:ident: $shape_type:ty),*);)*
    })*) => {$(
        pub(crate) mod $class {
            use super::*;
            #[allow(unused_imports, reason = "for `Abi::has`, which not every class needs")]
            pub(crate) use super::tables::$class::*;

            $(
                #[doc = concat!("See the [module](super); calls `", stringify!($method), "`.")]
                pub(crate) unsafe fn $name(
                    object: Object, $($argument: $type),*
                ) -> Result<calls!(@result $($result)?)> {
                    type Function = unsafe extern "C" fn(Pointer, $($type),*) $(-> $result)?;
                    // SAFETY: the caller promises that the object lives and is of this class.
                    let (this, code) = unsafe { object.method(&tables::$class::$method) }?;
                    // SAFETY: the tables say that this method is there, and it has this signature. Addresses
                    // of functions and of data have one size on every platform that TensorRT is made for.
                    let function = unsafe { mem::transmute::<*const c_void, Function>(code) };
                    // SAFETY: the caller promises the arguments.
                    Ok(unsafe { function(this, $($argument),*) })
                }
            )*

            $(
                #[doc = concat!("See the [module](super); calls `", stringify!($shape_method), "`, which gives a shape.")]
                pub(crate) unsafe fn $shape(
                    object: Object, $($shape_argument: $shape_type),*
                ) -> Result<Option<Vec<i64>>> {
                    type Narrow = unsafe extern "C" fn(Pointer, $($shape_type),*) -> Dims32;
                    type Wide = unsafe extern "C" fn(Pointer, $($shape_type),*) -> Dims64;
                    // SAFETY: the caller promises that the object lives and is of this class.
                    let (this, code) = unsafe { object.method(&tables::$class::$shape_method) }?;
                    if object.abi().family == Family::TensorRt8 {
                        // SAFETY: as above; `Dims` is `Dims32` in this family.
                        let function = unsafe { mem::transmute::<*const c_void, Narrow>(code) };
                        // SAFETY: the caller promises the arguments.
                        return Ok(unsafe { function(this, $($shape_argument),*) }.into());
                    }
                    // SAFETY: as above; `Dims` is `Dims64` in the others.
                    let function = unsafe { mem::transmute::<*const c_void, Wide>(code) };
                    // SAFETY: the caller promises the arguments.
                    Ok(unsafe { function(this, $($shape_argument),*) }.into())
                }
            )*
        }
    )*};
}

calls! {
    runtime {
        fn deserialize_cuda_engine = DESERIALIZE_CUDA_ENGINE(blob: *const u8, size: usize) -> Pointer;
        fn deserialize_cuda_engine_8 = DESERIALIZE_CUDA_ENGINE(blob: *const u8, size: usize, plugins: Pointer) -> Pointer;
        fn set_gpu_allocator = SET_GPU_ALLOCATOR(allocator: Pointer);
        fn set_error_recorder = SET_ERROR_RECORDER(recorder: Pointer);
        fn set_engine_host_code_allowed = SET_ENGINE_HOST_CODE_ALLOWED(is_allowed: bool);
    }
    cuda_engine {
        fn layer_count = GET_NB_LAYERS() -> i32;
        fn tensor_count = GET_NB_IO_TENSORS() -> i32;
        fn tensor_name = GET_IO_TENSOR_NAME(index: i32) -> *const c_char;
        fn tensor_io_mode = GET_TENSOR_IO_MODE(name: *const c_char) -> i32;
        fn tensor_data_type = GET_TENSOR_DATA_TYPE(name: *const c_char) -> i32;
        fn tensor_location = GET_TENSOR_LOCATION(name: *const c_char) -> i32;
        fn tensor_format = GET_TENSOR_FORMAT(name: *const c_char) -> i32;
        fn profile_count = GET_NB_OPTIMIZATION_PROFILES() -> i32;
        fn device_memory_size = GET_DEVICE_MEMORY_SIZE() -> usize;
        fn device_memory_size_for_profile = GET_DEVICE_MEMORY_SIZE_FOR_PROFILE(profile: i32) -> usize;
        fn device_memory_size_for_profile_v2 = GET_DEVICE_MEMORY_SIZE_FOR_PROFILE_V2(profile: i32) -> i64;
        fn create_execution_context = CREATE_EXECUTION_CONTEXT(strategy: i32) -> Pointer;
        fn create_execution_context_8 = CREATE_EXECUTION_CONTEXT() -> Pointer;
        fn create_execution_context_without_device_memory = CREATE_EXECUTION_CONTEXT_WITHOUT_DEVICE_MEMORY() -> Pointer;
        fn is_refittable = IS_REFITTABLE() -> bool;
        fn create_runtime_config = CREATE_RUNTIME_CONFIG() -> Pointer;
        fn create_configured_context = CREATE_EXECUTION_CONTEXT_WITH_RUNTIME_CONFIG(config: Pointer) -> Pointer;
        fn create_engine_inspector = CREATE_ENGINE_INSPECTOR() -> Pointer;
        fn set_error_recorder = SET_ERROR_RECORDER(recorder: Pointer);
        fn aux_stream_count = GET_NB_AUX_STREAMS() -> i32;
        shape fn tensor_shape = GET_TENSOR_SHAPE(name: *const c_char);
        shape fn profile_shape = GET_PROFILE_SHAPE(name: *const c_char, profile: i32, selector: i32);
    }
    execution_context {
        fn set_profiler = SET_PROFILER(profiler: Pointer);
        fn set_device_memory = SET_DEVICE_MEMORY(memory: Pointer);
        fn set_device_memory_v2 = SET_DEVICE_MEMORY_V2(memory: Pointer, size: i64);
        fn set_error_recorder = SET_ERROR_RECORDER(recorder: Pointer);
        fn set_optimization_profile_async = SET_OPTIMIZATION_PROFILE_ASYNC(profile: i32, stream: Pointer) -> bool;
        fn set_input_shape = SET_INPUT_SHAPE(name: *const c_char, dims: *const c_void) -> bool;
        fn set_tensor_address = SET_TENSOR_ADDRESS(name: *const c_char, address: Pointer) -> bool;
        fn infer_shapes = INFER_SHAPES(capacity: i32, names: *mut *const c_char) -> i32;
        fn max_output_size = GET_MAX_OUTPUT_SIZE(name: *const c_char) -> i64;
        fn enqueue_v3 = ENQUEUE_V3(stream: Pointer) -> bool;
        fn set_output_allocator = SET_OUTPUT_ALLOCATOR(name: *const c_char, allocator: Pointer) -> bool;
        fn set_nvtx_verbosity = SET_NVTX_VERBOSITY(verbosity: i32) -> bool;
        shape fn tensor_shape = GET_TENSOR_SHAPE(name: *const c_char);
    }
    runtime_config {
        fn set_allocation_strategy = SET_EXECUTION_CONTEXT_ALLOCATION_STRATEGY(strategy: i32);
        fn set_kernel_specialization = SET_DYNAMIC_SHAPES_KERNEL_SPECIALIZATION_STRATEGY(strategy: i32);
        fn set_cuda_graph_strategy = SET_CUDA_GRAPH_STRATEGY(strategy: i32) -> bool;
    }
    refitter {
        fn refit_cuda_engine = REFIT_CUDA_ENGINE() -> bool;
        fn set_error_recorder = SET_ERROR_RECORDER(recorder: Pointer);
        fn set_named_weights = SET_NAMED_WEIGHTS(name: *const c_char, weights: WeightsView) -> bool;
        fn missing_weights = GET_MISSING_WEIGHTS(capacity: i32, names: *mut *const c_char) -> i32;
        fn all_weights = GET_ALL_WEIGHTS(capacity: i32, names: *mut *const c_char) -> i32;
    }
    engine_inspector {
        fn layer_information = GET_LAYER_INFORMATION(layer: i32, format: i32) -> *const c_char;
        fn engine_information = GET_ENGINE_INFORMATION(format: i32) -> *const c_char;
        fn set_error_recorder = SET_ERROR_RECORDER(recorder: Pointer);
    }
    host_memory {
        fn data = DATA() -> *const u8;
        fn size = SIZE() -> usize;
    }
    builder {
        fn set_gpu_allocator = SET_GPU_ALLOCATOR(allocator: Pointer);
        fn create_builder_config = CREATE_BUILDER_CONFIG() -> Pointer;
        fn create_network_v2 = CREATE_NETWORK_V2(flags: u32) -> Pointer;
        fn create_optimization_profile = CREATE_OPTIMIZATION_PROFILE() -> Pointer;
        fn build_serialized_network = BUILD_SERIALIZED_NETWORK(network: Pointer, config: Pointer) -> Pointer;
        fn set_error_recorder = SET_ERROR_RECORDER(recorder: Pointer);
    }
    builder_config {
        fn set_flag = SET_FLAG(flag: i32);
        fn clear_flag = CLEAR_FLAG(flag: i32);
        fn flag = GET_FLAG(flag: i32) -> bool;
        fn set_memory_pool_limit = SET_MEMORY_POOL_LIMIT(pool: i32, bytes: usize);
        fn memory_pool_limit = GET_MEMORY_POOL_LIMIT(pool: i32) -> usize;
        fn set_profiling_verbosity = SET_PROFILING_VERBOSITY(verbosity: i32);
        fn add_optimization_profile = ADD_OPTIMIZATION_PROFILE(profile: Pointer) -> i32;
        fn set_calibration_profile = SET_CALIBRATION_PROFILE(profile: Pointer) -> bool;
        fn set_int8_calibrator = SET_INT8_CALIBRATOR(calibrator: Pointer);
        fn create_timing_cache = CREATE_TIMING_CACHE(blob: *const u8, size: usize) -> Pointer;
        fn set_timing_cache = SET_TIMING_CACHE(cache: Pointer, ignores_mismatch: bool) -> bool;
        fn set_preview_feature = SET_PREVIEW_FEATURE(feature: i32, is_on: bool);
        fn set_builder_optimization_level = SET_BUILDER_OPTIMIZATION_LEVEL(level: i32);
        fn set_max_aux_streams = SET_MAX_AUX_STREAMS(count: i32);
        fn set_progress_monitor = SET_PROGRESS_MONITOR(monitor: Pointer);
        fn set_tactic_sources = SET_TACTIC_SOURCES(sources: u32) -> bool;
        fn tactic_sources = GET_TACTIC_SOURCES() -> u32;
    }
    network_definition {
        fn input_count = GET_NB_INPUTS() -> i32;
        fn input = GET_INPUT(index: i32) -> Pointer;
        fn output_count = GET_NB_OUTPUTS() -> i32;
        fn output = GET_OUTPUT(index: i32) -> Pointer;
        fn layer_count = GET_NB_LAYERS() -> i32;
        fn set_error_recorder = SET_ERROR_RECORDER(recorder: Pointer);
    }
    tensor {
        fn set_dimensions = SET_DIMENSIONS(dims: *const c_void);
        fn set_dimensions_8 = SET_DIMENSIONS(dims: Dims32);
        fn name = GET_NAME() -> *const c_char;
        fn data_type = GET_TYPE() -> i32;
        fn is_shape_tensor = IS_SHAPE_TENSOR() -> bool;
        shape fn dimensions = GET_DIMENSIONS();
    }
    optimization_profile {
        fn set_dimensions = SET_DIMENSIONS(name: *const c_char, selector: i32, dims: *const c_void) -> bool;
        fn set_dimensions_8 = SET_DIMENSIONS(name: *const c_char, selector: i32, dims: Dims32) -> bool;
    }
    timing_cache {
        fn serialize = SERIALIZE() -> Pointer;
    }
    parser {
        fn parse = PARSE(model: *const u8, size: usize, path: *const c_char) -> bool;
        fn error_count = GET_NB_ERRORS() -> i32;
        fn error = GET_ERROR(index: i32) -> Pointer;
    }
    plugin_registry {
        fn load_library = LOAD_LIBRARY(file: *const c_char) -> Pointer;
        fn all_creators = GET_ALL_CREATORS(count: *mut i32) -> Pointer;
    }
    parser_error {
        fn code = CODE() -> i32;
        fn description = DESC() -> *const c_char;
        fn node = NODE() -> i32;
        fn node_name = NODE_NAME() -> *const c_char;
        fn node_operator = NODE_OPERATOR() -> *const c_char;
    }
}
