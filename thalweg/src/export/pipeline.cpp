@ORIGIN@
//
// g++ -O2 -std=c++17 pipeline.cpp -lnvinfer -lcudart -lpthread -o pipeline && ./pipeline @ENGINE@ 10
//
// Fill `produce` and `consume` in: each is called with a slot that nobody else uses meanwhile. What is not here of what
// Thalweg does: requests of several callers that share a batch, answers in the order of requests, checking outputs,
// and activation memory that the contexts of one stream share.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

enum class Graph { kOff, kCompute, kCopies };
constexpr int kStreams = @STREAMS@, kDepth = @DEPTH@, kBatch = @BATCH@, kSubmitters = @SUBMITTERS@;
// Pairs of streams for copies; where there are fewer than streams, these share them in turn.
constexpr int kCopyLanes = @COPY_LANES@;
constexpr Graph kGraph = @GRAPH@;
@WAIT@
constexpr bool kSpin = @SPIN@;

static void check(bool good, const char *what) {
  if (good) return;
  std::fprintf(stderr, "error: %s\n", what);
  std::exit(1);
}
static void check(cudaError_t code) { check(code == cudaSuccess, cudaGetErrorString(code)); }

class Logger : public nvinfer1::ILogger {
  void log(Severity severity, const char *text) noexcept override {
    if (severity <= Severity::kWARNING) std::fprintf(stderr, "%s\n", text);
  }
};

static size_t size_of(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
    case nvinfer1::DataType::kINT32: return 4;
    case nvinfer1::DataType::kHALF: return 2;
    case nvinfer1::DataType::kINT8:
    case nvinfer1::DataType::kUINT8:
    case nvinfer1::DataType::kBOOL: return 1;
#if NV_TENSORRT_MAJOR >= 10
    case nvinfer1::DataType::kINT64: return 8;
    case nvinfer1::DataType::kBF16: return 2;
#endif
    default: check(false, "a tensor has a type that this program does not know"); return 0;
  }
}

struct Tensor {
  std::string name;
  bool is_input;
  size_t bytes;
  void *host, *device;
};

// Everything of one execution. Nothing in it is touched between `launch` and the event `done`.
struct Slot {
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  std::vector<Tensor> tensors;
  cudaEvent_t copied_in, computed, done;
  cudaGraphExec_t graph = nullptr;
  bool is_running = false;
};

struct Lane {
  cudaStream_t h2d, compute, d2h;
  Slot slots[kDepth];
};

static void produce(Slot &slot) { (void)slot; /* write the input tensors' `host` */ }
static void consume(Slot &slot) { (void)slot; /* read the output tensors' `host` */ }

static nvinfer1::Dims shape_at(const nvinfer1::ICudaEngine &engine, const char *name) {
  nvinfer1::Dims dims = engine.getTensorShape(name);
  const nvinfer1::Dims best = engine.getProfileShape(name, 0, nvinfer1::OptProfileSelector::kOPT);
  for (int i = 0; i < dims.nbDims; ++i)
    if (dims.d[i] < 0) dims.d[i] = i == 0 ? kBatch : best.d[i];
  return dims;
}

static void copies(Slot &slot, cudaStream_t stream, bool inputs) {
  for (Tensor &t : slot.tensors) {
    if (t.is_input != inputs) continue;
    check(inputs ? cudaMemcpyAsync(t.device, t.host, t.bytes, cudaMemcpyHostToDevice, stream)
                 : cudaMemcpyAsync(t.host, t.device, t.bytes, cudaMemcpyDeviceToHost, stream));
  }
}

static void compute(Slot &slot, cudaStream_t stream) {
  check(slot.context->enqueueV3(stream), "TensorRT could not enqueue");
}

static void prepare(nvinfer1::ICudaEngine &engine, Lane &lane, Slot &slot) {
  slot.context.reset(engine.createExecutionContext());
  check(slot.context != nullptr, "TensorRT made no execution context");
  // Ranges that profilers read take time in each call that enqueues: leave this out to profile.
  slot.context->setNvtxVerbosity(nvinfer1::ProfilingVerbosity::kNONE);
  for (int i = 0; i < engine.getNbIOTensors(); ++i) {
    const char *name = engine.getIOTensorName(i);
    if (engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT)
      check(slot.context->setInputShape(name, shape_at(engine, name)), "an input shape is outside of the profile");
  }
  for (int i = 0; i < engine.getNbIOTensors(); ++i) {
    const char *name = engine.getIOTensorName(i);
    const bool is_input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    size_t bytes = size_of(engine.getTensorDataType(name));
    const nvinfer1::Dims dims = slot.context->getTensorShape(name);
    for (int d = 0; d < dims.nbDims; ++d) bytes *= static_cast<size_t>(dims.d[d]);
    Tensor tensor{name, is_input, bytes, nullptr, nullptr};
    check(cudaMallocHost(&tensor.host, bytes));
    check(cudaMalloc(&tensor.device, bytes));
    std::memset(tensor.host, 0, bytes);
    check(slot.context->setTensorAddress(name, tensor.device), "TensorRT took no address");
    slot.tensors.push_back(tensor);
  }
  for (cudaEvent_t *event : {&slot.copied_in, &slot.computed}) check(cudaEventCreateWithFlags(event, cudaEventDisableTiming));
  // Only what the host waits for may interrupt it.
  check(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming | (kSpin ? 0u : cudaEventBlockingSync)));
  // TensorRT finishes its preparations in the first call, which therefore must not be captured.
  compute(slot, lane.compute);
  check(cudaStreamSynchronize(lane.compute));
  if (kGraph == Graph::kOff) return;
  cudaGraph_t graph;
  check(cudaStreamBeginCapture(lane.compute, cudaStreamCaptureModeThreadLocal));
  if (kGraph == Graph::kCopies) copies(slot, lane.compute, true);
  compute(slot, lane.compute);
  if (kGraph == Graph::kCopies) copies(slot, lane.compute, false);
  check(cudaStreamEndCapture(lane.compute, &graph));
  check(cudaGraphInstantiateWithFlags(&slot.graph, graph, 0));
  check(cudaGraphDestroy(graph));
}

static void launch(Lane &lane, Slot &slot) {
  slot.is_running = true;
  if (kGraph == Graph::kCopies) {
    check(cudaGraphLaunch(slot.graph, lane.compute));
    check(cudaEventRecord(slot.done, lane.compute));
    return;
  }
  copies(slot, lane.h2d, true);
  check(cudaEventRecord(slot.copied_in, lane.h2d));
  check(cudaStreamWaitEvent(lane.compute, slot.copied_in, 0));
  if (slot.graph) check(cudaGraphLaunch(slot.graph, lane.compute));
  else compute(slot, lane.compute);
  check(cudaEventRecord(slot.computed, lane.compute));
  check(cudaStreamWaitEvent(lane.d2h, slot.computed, 0));
  copies(slot, lane.d2h, false);
  check(cudaEventRecord(slot.done, lane.d2h));
}

// Drives its share of the streams: one slot of each after the other, so that all have work.
static void submit(std::vector<Lane> &lanes, int first, const std::atomic<bool> &is_over, std::atomic<long> &executions) {
  for (long turn = 0; !is_over; ++turn) {
    for (int i = first; i < kStreams; i += kSubmitters) {
      Slot &slot = lanes[i].slots[turn % kDepth];
      if (slot.is_running) {
        check(cudaEventSynchronize(slot.done));
        consume(slot);
        ++executions;
      }
      produce(slot);
      launch(lanes[i], slot);
    }
  }
}

int main(int argc, char **argv) {
@QUEUES@
  const char *path = argc > 1 ? argv[1] : "@ENGINE@";
  const double seconds = argc > 2 ? std::atof(argv[2]) : 10;
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> plan{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  check(!plan.empty(), "the engine cannot be read");
  Logger logger;
  std::unique_ptr<nvinfer1::IRuntime> runtime{nvinfer1::createInferRuntime(logger)};
  std::unique_ptr<nvinfer1::ICudaEngine> engine{runtime->deserializeCudaEngine(plan.data(), plan.size())};
  check(engine != nullptr, "TensorRT could not load the engine");

  std::vector<Lane> lanes(kStreams);
  for (int i = 0; i < kStreams; ++i) {
    Lane &lane = lanes[i];
    lane.h2d = lanes[i % kCopyLanes].h2d;
    lane.d2h = lanes[i % kCopyLanes].d2h;
    check(cudaStreamCreateWithFlags(&lane.compute, cudaStreamNonBlocking));
    if (i < kCopyLanes) {
      for (cudaStream_t *stream : {&lane.h2d, &lane.d2h})
        check(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking));
    }
    for (Slot &slot : lane.slots) prepare(*engine, lane, slot);
  }
  std::atomic<bool> is_over{false};
  std::atomic<long> executions{0};
  std::vector<std::thread> submitters;
  for (int i = 0; i < kSubmitters; ++i)
    submitters.emplace_back([&, i] { submit(lanes, i, is_over, executions); });
  const auto start = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const double taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const long finished = executions;
  is_over = true;
  for (std::thread &submitter : submitters) submitter.join();
  check(cudaDeviceSynchronize());
  std::printf("%.0f inferences/s, %.0f executions/s\n", finished * kBatch / taken, finished / taken);
  return 0;
}
