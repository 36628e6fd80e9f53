// How long a captured graph of an engine takes, bare, as trtexec runs it: what of a setup makes it longer?
//
// nvcc -O2 -std=c++17 -arch=sm_90 -w -I <TensorRT's headers> -o replay scripts/gpu/replay.cu -L <TensorRT> -l:libnvinfer.so.8
//      -lnvidia-ml && ./replay resnet50-fp16.plan 1 plain plain two caller+private
//
// Each word after engine and batch is one run of a second in the same process, one behind the other: `plain` is a context,
// its graph, two executions in flight and copies on streams of their own. What is joined to it with `+` changes that:
//   same      on the streams of the run before        lateN     N other streams are made before
//   two       two contexts and graphs in turn         caller    activations in memory of the caller
//   private   captured on a stream of its own         upload    cuGraphUpload before the first launch
//   blocking  streams that wait for the default one   bare      without copies
//   gpm       NVML's GPM is sampled before            hole      1 GiB is taken before the context is made
//   once      the context executes once, no more      keep      context and graph are not destroyed afterwards
//   context   the context is not destroyed            graph     the graph is not destroyed
//   spare     on streams that were made before the first run, and on which nothing has run
//   used      with `spare`: the first run's graph has run once on them, before it ran for long
//   stepN     N contexts, each with streams of its own, in step as in trtexec: one launch on each, then a wait for each
//   freeN     the same, but whichever has finished is launched again at once
//   zero      with `stepN` or `freeN`: kernels read the input from page-locked memory of the host, and nothing is copied there
//   priority  with `stepN` or `freeN`: every other context's streams have the highest priority, the others the lowest
// Networks of one input and one output, both of FP32.
#include <cuda_runtime.h>
#include <nvml.h>

#include <algorithm>
#include <utility>

#include "bare.h"

using namespace nvinfer1;

struct Streams {
  cudaStream_t h2d, compute, d2h, other;
};

struct Lane {
  IExecutionContext *context;
  void *input, *output, *host_input, *host_output;
  size_t input_bytes, output_bytes;
  cudaGraphExec_t graph;
};

static bool has_start(const std::string &how, const char *what) { return ("+" + how).find("+" + std::string(what)) != std::string::npos; }

static Streams streams_of(const std::string &how) {
  Streams made;
  int lowest, highest;
  static int made_before = 0;
  CHECK(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
  const int priority = !has(how, "priority") ? 0 : made_before++ % 2 ? lowest : highest;
  const size_t late = how.find("late");
  for (int i = late == std::string::npos ? 0 : std::atoi(how.c_str() + late + 4); i > 0; --i) {
    cudaStream_t other;
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  }
  for (cudaStream_t *stream : {&made.h2d, &made.compute, &made.d2h, &made.other})
    CHECK(cudaStreamCreateWithPriority(stream, has(how, "blocking") ? cudaStreamDefault : cudaStreamNonBlocking, priority));
  return made;
}

static Lane lane_of(ICudaEngine *engine, int batch, const std::string &how, const Streams &streams, void *memory) {
  Lane lane{};
  lane.context = memory ? engine->createExecutionContextWithoutDeviceMemory() : engine->createExecutionContext();
  if (memory) lane.context->setDeviceMemory(memory);
  lane.context->setOptimizationProfileAsync(0, streams.compute);
  CHECK(cudaStreamSynchronize(streams.compute));
  const char *input = engine->getIOTensorName(0), *output = engine->getIOTensorName(1);
  if (engine->getTensorIOMode(input) != TensorIOMode::kINPUT) std::swap(input, output);
  Dims dims = engine->getTensorShape(input);
  dims.d[0] = batch;
  lane.context->setInputShape(input, dims);
  lane.input_bytes = bytes_of(dims);
  lane.output_bytes = bytes_of(lane.context->getTensorShape(output));
  CHECK(cudaMalloc(&lane.input, lane.input_bytes));
  CHECK(cudaMalloc(&lane.output, lane.output_bytes));
  CHECK(cudaMallocHost(&lane.host_input, lane.input_bytes));
  CHECK(cudaMallocHost(&lane.host_output, lane.output_bytes));
  for (size_t i = 0; i < lane.input_bytes / 4; ++i) static_cast<float *>(lane.host_input)[i] = (std::rand() % 1000) / 1000.f;
  lane.context->setTensorAddress(input, has(how, "zero") ? lane.host_input : lane.input);
  lane.context->setTensorAddress(output, lane.output);
  // TensorRT asks for an execution before the capture.
  lane.context->enqueueV3(streams.compute);
  CHECK(cudaStreamSynchronize(streams.compute));
  cudaStream_t captured = has(how, "private") ? streams.other : streams.compute;
  cudaGraph_t graph;
  CHECK(cudaStreamBeginCapture(captured, cudaStreamCaptureModeThreadLocal));
  lane.context->enqueueV3(captured);
  CHECK(cudaStreamEndCapture(captured, &graph));
  CHECK(cudaGraphInstantiate(&lane.graph, graph, 0));
  if (has(how, "upload")) CHECK(cudaGraphUpload(lane.graph, streams.compute));
  CHECK(cudaStreamSynchronize(streams.compute));
  return lane;
}

static std::vector<Streams> spares, used;

// Two executions in flight on each of several contexts with streams of their own, in step or not.
static void run_several(ICudaEngine *engine, int batch, const std::string &how) {
  const bool in_step = has_start(how, "step");
  const int count = number_behind(how, in_step ? "step" : "free");
  struct One {
    Streams streams;
    Lane lane;
    cudaEvent_t marks[2][3];
    int enqueued, done;
  };
  std::vector<One> all(count);
  for (One &one : all) one.streams = streams_of(how);
  for (One &one : all) {
    one.lane = lane_of(engine, batch, how, one.streams, nullptr);
    for (auto &set : one.marks)
      for (auto &mark : set) CHECK(cudaEventCreateWithFlags(&mark, cudaEventDefault));
  }
  auto enqueue = [&](One &one) {
    auto &mark = one.marks[one.enqueued++ % 2];
    if (!has(how, "zero")) {
      cudaMemcpyAsync(one.lane.input, one.lane.host_input, one.lane.input_bytes, cudaMemcpyHostToDevice, one.streams.h2d);
      cudaEventRecord(mark[0], one.streams.h2d);
      cudaStreamWaitEvent(one.streams.compute, mark[0], 0);
    }
    cudaEventRecord(mark[0], one.streams.compute);
    CHECK(cudaGraphLaunch(one.lane.graph, one.streams.compute));
    cudaEventRecord(mark[1], one.streams.compute);
    cudaStreamWaitEvent(one.streams.d2h, mark[1], 0);
    cudaMemcpyAsync(one.lane.host_output, one.lane.output, one.lane.output_bytes, cudaMemcpyDeviceToHost, one.streams.d2h);
    cudaEventRecord(mark[2], one.streams.d2h);
  };
  std::vector<float> times;
  const double begin = seconds(), length = 1.2;
  double counted_from = 0;
  auto finish = [&](One &one) {
    auto &mark = one.marks[one.done++ % 2];
    float ms;
    CHECK(cudaEventElapsedTime(&ms, mark[0], mark[1]));
    if (seconds() - begin < length / 3) return;
    if (times.empty()) counted_from = seconds();
    times.push_back(ms);
  };
  for (One &one : all) enqueue(one);
  while (seconds() - begin < length) {
    for (One &one : all) {
      if (!in_step && one.enqueued - one.done == 2 && cudaEventQuery(one.marks[one.done % 2][2]) != cudaSuccess) continue;
      if (!in_step && one.enqueued - one.done == 2) finish(one);
      enqueue(one);
    }
    for (One &one : all) {
      if (!in_step) break;
      CHECK(cudaEventSynchronize(one.marks[one.done % 2][2]));
      finish(one);
    }
  }
  CHECK(cudaDeviceSynchronize());
  const double rate = times.size() / (begin + length - counted_from);
  std::sort(times.begin(), times.end());
  std::printf("%-24s batch %3d  graph %.1f us (median)  %.0f executions/s\n", how.c_str(), batch, times[times.size() / 2] * 1e3, rate);
  std::fflush(stdout);
  for (One &one : all) {
    cudaGraphExecDestroy(one.lane.graph);
    delete one.lane.context;
    cudaFree(one.lane.input), cudaFree(one.lane.output), cudaFreeHost(one.lane.host_input), cudaFreeHost(one.lane.host_output);
  }
}

static void run(ICudaEngine *engine, int batch, const std::string &how, nvmlDevice_t device) {
  if (has_start(how, "step") || has_start(how, "free")) return run_several(engine, batch, how);
  static Streams streams = streams_of(how);
  static bool is_first = true;
  if (has(how, "spare")) {
    std::vector<Streams> &left = has(how, "used") ? used : spares;
    streams = left.back();
    left.pop_back();
  } else if (!is_first && !has(how, "same")) {
    streams = streams_of(how);
  }
  const bool uses_others = std::exchange(is_first, false);
  void *memory = nullptr, *hole = nullptr;
  if (has(how, "hole")) CHECK(cudaMalloc(&hole, size_t(1) << 30));
  if (has(how, "caller")) CHECK(cudaMalloc(&memory, engine->getDeviceMemorySize()));
  std::vector<Lane> lanes;
  for (int i = 0; i < (has(how, "two") ? 2 : 1); ++i) lanes.push_back(lane_of(engine, batch, how, streams, memory));
  for (const Streams &other : uses_others ? used : std::vector<Streams>()) CHECK(cudaGraphLaunch(lanes[0].graph, other.compute));
  CHECK(cudaDeviceSynchronize());
  nvmlGpmSample_t sample = nullptr;
  if (has(how, "gpm")) {
    CHECK(nvmlGpmSampleAlloc(&sample));
    CHECK(nvmlGpmSampleGet(device, sample));
  }
  cudaEvent_t marks[2][6];
  for (auto &set : marks)
    for (auto &mark : set) CHECK(cudaEventCreateWithFlags(&mark, cudaEventBlockingSync));
  const bool copies = !has(how, "bare");
  auto enqueue = [&](int number) {
    Lane &lane = lanes[number % lanes.size()];
    auto &mark = marks[number % 2];
    if (copies) {
      cudaEventRecord(mark[0], streams.h2d);
      cudaMemcpyAsync(lane.input, lane.host_input, lane.input_bytes, cudaMemcpyHostToDevice, streams.h2d);
      cudaEventRecord(mark[1], streams.h2d);
      cudaStreamWaitEvent(streams.compute, mark[1], 0);
    }
    cudaEventRecord(mark[2], streams.compute);
    CHECK(cudaGraphLaunch(lane.graph, streams.compute));
    cudaEventRecord(mark[3], streams.compute);
    if (copies) {
      cudaStreamWaitEvent(streams.d2h, mark[3], 0);
      cudaEventRecord(mark[4], streams.d2h);
      cudaMemcpyAsync(lane.host_output, lane.output, lane.output_bytes, cudaMemcpyDeviceToHost, streams.d2h);
      cudaEventRecord(mark[5], streams.d2h);
    }
  };
  std::vector<float> times;
  const double begin = seconds(), length = has(how, "once") ? 0 : 0.9;
  double counted_from = begin;
  int enqueued = 0, done = 0;
  while (seconds() - begin < length) {
    while (enqueued - done < 2) enqueue(enqueued++);
    float ms;
    CHECK(cudaEventSynchronize(marks[done % 2][copies ? 5 : 3]));
    CHECK(cudaEventElapsedTime(&ms, marks[done % 2][2], marks[done % 2][3]));
    ++done;
    if (seconds() - begin > length / 3) {
      if (times.empty()) counted_from = seconds();
      times.push_back(ms);
    }
  }
  unsigned sm_mhz = 0, memory_mhz = 0, milliwatts = 0;
  nvmlDeviceGetClockInfo(device, NVML_CLOCK_SM, &sm_mhz);
  nvmlDeviceGetClockInfo(device, NVML_CLOCK_MEM, &memory_mhz);
  nvmlDeviceGetPowerUsage(device, &milliwatts);
  CHECK(cudaDeviceSynchronize());
  if (!times.empty()) {
    const double period = (seconds() - counted_from) / times.size();
    std::sort(times.begin(), times.end());
    std::printf("%-24s batch %3d  graph %.1f us (median)  period %.1f us  SM %u MHz, memory %u MHz, %.0f W\n", how.c_str(), batch,
                times[times.size() / 2] * 1e3, period * 1e6, sm_mhz, memory_mhz, milliwatts / 1e3);
    std::fflush(stdout);
  }
  if (sample) nvmlGpmSampleFree(sample);
  for (Lane &lane : lanes) {
    if (has(how, "keep")) continue;
    if (!has(how, "graph")) cudaGraphExecDestroy(lane.graph);
    if (!has(how, "context")) delete lane.context;
    cudaFree(lane.input), cudaFree(lane.output), cudaFreeHost(lane.host_input), cudaFreeHost(lane.host_output);
  }
  if (memory && !has(how, "keep")) cudaFree(memory);
}

int main(int count, char **words) {
  if (count < 4) return std::fprintf(stderr, "usage: replay ENGINE BATCH RUN...\n"), 2;
  nvmlDevice_t device;
  CHECK(nvmlInit());
  CHECK(nvmlDeviceGetHandleByIndex(0, &device));
  ICudaEngine *engine = engine_of(words[1]);
  if (engine == nullptr) return 1;
  for (int word = 3; word < count; ++word)
    if (has(words[word], "spare")) (has(words[word], "used") ? used : spares).push_back(streams_of(words[word]));
  for (int word = 3; word < count; ++word) run(engine, std::atoi(words[2]), words[word], device);
}
