// What becomes of an execution context whose shapes change from one execution to the next? Without Thalweg, on the plain API.
//
// nvcc -O2 -std=c++17 -arch=sm_90 -w -I <TensorRT's headers> -o shapes scripts/gpu/shapes.cu -L <TensorRT> -l:libnvinfer.so.8
//      && ./shapes resnet50-fp16.plan 8 same change change+ask change+ask+again fixed steps+shared steps+graph
//
// Each word after the engine and the largest batch is one run of a second: eight lanes, each with a stream, its buffers and one
// execution at a time, which one thread feeds in turn. Outputs are compared bit by bit with those of the same samples alone,
// and are filled with a pattern before each execution. A word starts with what shapes the lanes' contexts have:
//   same      all have the largest batch              change    each execution has another one, in the one context of the lane
//   fixed     lane i has the batch 1, 2, 4, ... for ever, as many as there are
//   steps     each lane has a context for each of 1, 2, 4, ..., and each execution is of one of them
// What is joined to it with `+` changes that:
//   ask       where shapes were set, how large the output can be is asked before the execution (`getMaxOutputSize`)
//   shape     the same, the shape of the output (`getTensorShape`)
//   infer     the same, `inferShapes`
//   again     what was set is set once more behind that
//   keep      the addresses of tensors, which do not change, are set once and not for each execution
//   graph     contexts whose shapes never change are captured, and launched as graphs
//   shared    contexts of one lane compute in the same memory
//   serial    the host waits for each execution before it enqueues the next
//   two       lanes 0 and 1 have one stream and the same contexts, and so on: an execution behind the other on each
//   lanesN    N lanes instead of eight
// Networks of one input and one output, both of FP32.
#include <cuda_runtime.h>

#include <map>
#include <random>
#include <utility>

#include "bare.h"

using namespace nvinfer1;

constexpr int kSamples = 64;
constexpr unsigned char kPattern = 0xAB;

struct Network {
  ICudaEngine *engine;
  const char *input, *output;
  Dims dims;
  size_t input_bytes = 4, output_bytes = 4;  // of one sample
  int largest;
  std::vector<int> steps;
  char *samples;  // kSamples + largest of them, page-locked
  // What `batch` samples from `first` on give alone.
  std::map<std::pair<int, int>, std::vector<char>> alone;
};

struct Lane {
  cudaStream_t stream;
  char *input, *output, *host_output;
  void *memory = nullptr;
  std::vector<IExecutionContext *> contexts;  // by step, or one
  std::vector<cudaGraphExec_t> graphs;
  int batch = 0, first = 0;  // of what runs
};

static IExecutionContext *context_of(Network &network, Lane &lane, bool is_shared) {
  IExecutionContext *context = is_shared ? network.engine->createExecutionContextWithoutDeviceMemory() : network.engine->createExecutionContext();
  if (is_shared) {
    if (!lane.memory) CHECK(cudaMalloc(&lane.memory, network.engine->getDeviceMemorySize()));
    context->setDeviceMemory(lane.memory);
  }
  context->setOptimizationProfileAsync(0, lane.stream);
  CHECK(cudaStreamSynchronize(lane.stream));
  context->setTensorAddress(network.input, lane.input);
  context->setTensorAddress(network.output, lane.output);
  return context;
}

static void set_batch(Network &network, IExecutionContext *context, int batch) {
  Dims dims = network.dims;
  dims.d[0] = batch;
  if (!context->setInputShape(network.input, dims)) std::printf("shape refused\n"), std::exit(1);
}

static Lane lane_of(Network &network) {
  Lane lane;
  CHECK(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking));
  CHECK(cudaMalloc(&lane.input, network.input_bytes * network.largest));
  CHECK(cudaMalloc(&lane.output, network.output_bytes * network.largest));
  CHECK(cudaMallocHost(&lane.host_output, network.output_bytes * network.largest));
  return lane;
}

static void start(Network &network, Lane &lane, int which, int batch, int first, bool binds = true) {
  lane.batch = batch, lane.first = first;
  CHECK(cudaMemsetAsync(lane.output, kPattern, network.output_bytes * network.largest, lane.stream));
  CHECK(cudaMemcpyAsync(lane.input, network.samples + first * network.input_bytes, batch * network.input_bytes, cudaMemcpyHostToDevice, lane.stream));
  if (lane.graphs.empty()) {
    if (binds) lane.contexts[which]->setTensorAddress(network.input, lane.input);
    if (binds) lane.contexts[which]->setTensorAddress(network.output, lane.output);
    if (!lane.contexts[which]->enqueueV3(lane.stream)) std::printf("enqueueV3 failed\n"), std::exit(1);
  } else {
    CHECK(cudaGraphLaunch(lane.graphs[which], lane.stream));
  }
  CHECK(cudaMemcpyAsync(lane.host_output, lane.output, network.output_bytes * network.largest, cudaMemcpyDeviceToHost, lane.stream));
}

struct Score {
  long executions = 0, wrong = 0, unwritten = 0, beyond = 0;
  std::map<int, long> wrong_of;
};

static void finish(Network &network, Lane &lane, Score &score) {
  if (lane.batch == 0) return;
  CHECK(cudaStreamSynchronize(lane.stream));
  const std::vector<char> &expected = network.alone.at({lane.batch, lane.first});
  bool is_wrong = false, is_unwritten = false, is_beyond = false;
  for (int sample = 0; sample < network.largest; ++sample) {
    const char *got = lane.host_output + sample * network.output_bytes;
    bool is_pattern = true;
    for (size_t i = 0; i < network.output_bytes; ++i) is_pattern &= static_cast<unsigned char>(got[i]) == kPattern;
    if (sample >= lane.batch) {
      is_beyond |= !is_pattern;
      continue;
    }
    is_unwritten |= is_pattern;
    is_wrong |= std::memcmp(got, &expected[sample * network.output_bytes], network.output_bytes) != 0;
  }
  ++score.executions, score.wrong += is_wrong, score.unwritten += is_unwritten, score.beyond += is_beyond;
  if (is_wrong) ++score.wrong_of[lane.batch];
  lane.batch = 0;
}

static void run(Network &network, const std::string &how) {
  const int count = number_behind(how, "lanes", 8);
  const bool is_steps = has(how, "steps"), is_change = has(how, "change"), is_shared = has(how, "shared");
  // Of contexts whose shapes never change.
  auto batch_of = [&](int lane, size_t step) {
    if (is_steps) return network.steps[step];
    return has(how, "fixed") ? network.steps[lane % network.steps.size()] : network.largest;
  };
  std::vector<Lane> lanes;
  for (int i = 0; i < count; ++i) {
    lanes.push_back(lane_of(network));
    Lane &lane = lanes.back();
    if (has(how, "two") && i % 2 == 1) {
      lane.stream = lanes[i - 1].stream, lane.contexts = lanes[i - 1].contexts;
      continue;
    }
    for (size_t step = 0; step < (is_steps ? network.steps.size() : 1); ++step) {
      lane.contexts.push_back(context_of(network, lane, is_shared));
      if (is_change) continue;
      set_batch(network, lane.contexts.back(), batch_of(i, step));
      if (!has(how, "graph")) continue;
      if (!lane.contexts.back()->enqueueV3(lane.stream)) std::printf("enqueueV3 failed\n"), std::exit(1);
      CHECK(cudaStreamSynchronize(lane.stream));
      cudaGraph_t graph;
      lane.graphs.emplace_back();
      CHECK(cudaStreamBeginCapture(lane.stream, cudaStreamCaptureModeThreadLocal));
      lane.contexts.back()->enqueueV3(lane.stream);
      CHECK(cudaStreamEndCapture(lane.stream, &graph));
      CHECK(cudaGraphInstantiate(&lane.graphs.back(), graph, 0));
    }
  }
  std::mt19937 random(7);
  Score score;
  const double begin = seconds();
  while (seconds() - begin < 1) {
    for (int i = 0; i < count; ++i) {
      Lane &lane = lanes[i];
      finish(network, lane, score);
      const int which = is_steps ? random() % network.steps.size() : 0;
      const int batch = is_change ? 1 + random() % network.largest : batch_of(i, which);
      if (is_change) set_batch(network, lane.contexts[0], batch);
      if (has(how, "ask")) lane.contexts[which]->getMaxOutputSize(network.output);
      if (has(how, "shape")) lane.contexts[which]->getTensorShape(network.output);
      if (has(how, "infer")) lane.contexts[which]->inferShapes(0, nullptr);
      if (has(how, "again")) set_batch(network, lane.contexts[0], batch);
      start(network, lane, which, batch, random() % kSamples, !has(how, "keep"));
      if (has(how, "serial")) finish(network, lane, score);
    }
  }
  for (Lane &lane : lanes) finish(network, lane, score);
  std::printf("%-28s %7ld executions, %ld wrong, %ld of them not all written, %ld wrote beyond;", how.c_str(), score.executions, score.wrong, score.unwritten, score.beyond);
  for (auto [batch, wrong] : score.wrong_of) std::printf(" %ld at batch %d", wrong, batch);
  std::printf("\n"), std::fflush(stdout);
  for (int i = 0; i < count; ++i) {
    Lane &lane = lanes[i];
    for (auto graph : lane.graphs) cudaGraphExecDestroy(graph);
    const bool is_owner = !has(how, "two") || i % 2 == 0;
    for (auto context : lane.contexts)
      if (is_owner) delete context;
    cudaFree(lane.input), cudaFree(lane.output), cudaFree(lane.memory), cudaFreeHost(lane.host_output);
    if (is_owner) cudaStreamDestroy(lane.stream);
  }
}

int main(int count, char **words) {
  if (count < 4) return std::fprintf(stderr, "usage: shapes ENGINE LARGEST RUN...\n"), 2;
  Network network;
  network.largest = std::atoi(words[2]);
  network.engine = engine_of(words[1]);
  if (network.engine == nullptr) return 1;
  network.input = network.engine->getIOTensorName(0), network.output = network.engine->getIOTensorName(1);
  if (network.engine->getTensorIOMode(network.input) != TensorIOMode::kINPUT) std::swap(network.input, network.output);
  network.dims = network.engine->getTensorShape(network.input);
  const Dims output = network.engine->getTensorShape(network.output);
  for (int i = 1; i < network.dims.nbDims; ++i) network.input_bytes *= network.dims.d[i];
  for (int i = 1; i < output.nbDims; ++i) network.output_bytes *= output.d[i];
  for (int step = 1; step < network.largest; step *= 2) network.steps.push_back(step);
  network.steps.push_back(network.largest);
  const size_t sample_bytes = (kSamples + network.largest) * network.input_bytes;
  CHECK(cudaMallocHost(&network.samples, sample_bytes));
  std::mt19937 random(1);
  float *values = reinterpret_cast<float *>(network.samples);
  for (size_t i = 0; i < sample_bytes / 4; ++i) values[i] = (random() % 65536) / 65536.f;

  // Alone: one context, one execution at a time.
  Lane lane = lane_of(network);
  lane.contexts.push_back(context_of(network, lane, false));
  for (int batch = 1; batch <= network.largest; ++batch) {
    set_batch(network, lane.contexts[0], batch);
    for (int first = 0; first < kSamples; ++first) {
      start(network, lane, 0, batch, first);
      CHECK(cudaStreamSynchronize(lane.stream));
      network.alone[{batch, first}].assign(lane.host_output, lane.host_output + batch * network.output_bytes);
    }
  }
  delete lane.contexts[0];
  for (int word = 3; word < count; ++word) run(network, words[word]);
}
