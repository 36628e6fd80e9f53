// What decides how long `enqueueV3` takes on the host, and does it help to leave a core whose other half is busy?
//
// nvcc -O2 -std=c++17 -arch=sm_90 -w -Xcompiler -funroll-loops,-fno-tree-vectorize -I <TensorRT's headers> -o enqueue scripts/gpu/enqueue.cu -L <TensorRT> -l:libnvinfer.so.8
//      && ./enqueue resnet50-fp16.plan 1 SETS ROUNDS SECONDS HOW...
//
// SETS sets of four contexts with streams of their own are made, one after the other. Then, ROUNDS times over in an order that is
// shuffled, each set runs for SECONDS in each way, two executions in flight on each stream and no graph, in a thread of its own.
// HOW is the number of a core, to which the thread is bound, `free`, `hop`: free, and when somebody else works on its core, its other
// hyperthread included, on to another core; `nap`: a tenth of a millisecond asleep instead; or `scan`, which runs nothing and
// asks each core. All look at their core each 20 ms. A row for each run: the moment, the set, how, the core at the end, the median
// and the tenth percentile of the call in us, executions a second, the share of the time in which the thread ran (less than 1: it
// waited for the core), how often it left a core, the share of looks that found somebody there, the smallest and the median ratio
// of several chains to one, the share of the time for looking, and the ratios, one letter each (a below 1.1, b below 1.2 and so
// on). Networks of one input and one output, both of FP32.
#include <cuda_runtime.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <random>
#include <thread>

#include "bare.h"

using namespace nvinfer1;

constexpr int LANES = 4, IN_FLIGHT = 2;

struct Lane {
  IExecutionContext *context;
  cudaStream_t stream;
  cudaEvent_t marks[IN_FLIGHT];
  int enqueued = 0, done = 0;
};

static Lane lane_of(ICudaEngine *engine, int batch) {
  Lane lane;
  CHECK(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking));
  for (auto &mark : lane.marks) CHECK(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming));
  lane.context = engine->createExecutionContext();
  lane.context->setOptimizationProfileAsync(0, lane.stream);
  const char *input = engine->getIOTensorName(0), *output = engine->getIOTensorName(1);
  if (engine->getTensorIOMode(input) != TensorIOMode::kINPUT) std::swap(input, output);
  Dims dims = engine->getTensorShape(input);
  dims.d[0] = batch;
  lane.context->setInputShape(input, dims);
  void *memory;
  CHECK(cudaMalloc(&memory, bytes_of(dims)));
  lane.context->setTensorAddress(input, memory);
  CHECK(cudaMalloc(&memory, bytes_of(lane.context->getTensorShape(output))));
  lane.context->setTensorAddress(output, memory);
  lane.context->enqueueV3(lane.stream);
  CHECK(cudaStreamSynchronize(lane.stream));
  return lane;
}

static double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

// What several chains of dependent operations take side by side, over what one takes: thalweg/src/pool/core_probe.rs.
template <int COUNT>
static double chains() {
  uint64_t values[COUNT];
  for (int i = 0; i < COUNT; ++i) {
    values[i] = i + 1;
    asm volatile("" : "+r"(values[i]));
  }
  const auto begin = std::chrono::steady_clock::now();
  for (int step = 0; step < 1000; ++step)
    for (uint64_t &value : values) value = (value ^ (value >> 29)) * 0x5851f42d4c957f2dull;
  for (uint64_t value : values) asm volatile("" : : "r"(value));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

static double probe() {
  double one = 1, several = 1;
  for (int turn = 0; turn < 3; ++turn) one = std::min(one, chains<1>()), several = std::min(several, chains<5>());
  return several / one;
}

// 1.13 on a core of its own, as g++ 13 compiles it.
constexpr double SHARED_FROM = 1.25;

static void bind(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  for (int i = 0; i < int(std::thread::hardware_concurrency()); ++i)
    if (core < 0 || core == i) CPU_SET(i, &cores);
  CHECK(sched_setaffinity(0, sizeof cores, &cores));
}

static void run(std::vector<Lane> &set, int number, const std::string &how, double length, double start) {
  static std::mt19937 random(11);
  const bool hops = how == "hop" || how == "nap";
  if (how == "scan") {
    for (int core = 0; core < int(std::thread::hardware_concurrency()); ++core) {
      bind(core);
      const double ratio = probe();
      std::printf("%.2f ", ratio);
    }
    std::printf("of each core\n");
    return;
  }
  if (how != "free" && !hops) bind(std::atoi(how.c_str()));
  std::vector<double> times, probes;
  int left = 0;
  double probing = 0;
  const double begin = seconds(), cpu_begin = cpu_seconds();
  double next_probe = begin;
  while (seconds() - begin < length) {
    if (const double now = seconds(); now >= next_probe) {
      next_probe = now + 0.02;
      probes.push_back(probe());
      if (hops && probes.back() >= SHARED_FROM) {
        const int here = sched_getcpu(), cores = std::thread::hardware_concurrency();
        if (how == "nap") {
          std::this_thread::sleep_for(std::chrono::microseconds(100));
        } else {
          bind((here + 1 + random() % (cores - 1)) % cores);
          bind(-1);
        }
        ++left;
        next_probe = now + 0.002;
      }
      probing += seconds() - now;
    }
    for (Lane &lane : set) {
      if (lane.enqueued - lane.done == IN_FLIGHT) {
        if (cudaEventQuery(lane.marks[lane.done % IN_FLIGHT]) != cudaSuccess) continue;
        ++lane.done;
      }
      const double from = seconds();
      lane.context->enqueueV3(lane.stream);
      times.push_back((seconds() - from) * 1e6);
      cudaEventRecord(lane.marks[lane.enqueued++ % IN_FLIGHT], lane.stream);
    }
  }
  const double took = seconds() - begin, cpu = cpu_seconds() - cpu_begin;
  const int core = sched_getcpu();
  CHECK(cudaDeviceSynchronize());
  for (Lane &lane : set) lane.done = lane.enqueued;
  std::string letters;
  for (double it : probes) letters += char('a' + std::clamp(int((it - 1) * 10), 0, 25));
  const double shared = std::count_if(probes.begin(), probes.end(), [](double it) { return it >= SHARED_FROM; });
  std::sort(times.begin(), times.end());
  std::sort(probes.begin(), probes.end());
  std::printf("%.2f %d %s %d %.1f %.1f %.0f %.3f %d %.2f %.2f %.2f %.4f %s\n", begin - start, number, how.c_str(), core, times[times.size() / 2], times[times.size() / 10],
              times.size() / took, cpu / took, left, shared / probes.size(), probes[0], probes[probes.size() / 2], probing / took, letters.c_str());
  std::fflush(stdout);
}

int main(int count, char **words) {
  if (count < 7) return std::fprintf(stderr, "usage: enqueue ENGINE BATCH SETS ROUNDS SECONDS HOW...\n"), 2;
  ICudaEngine *engine = engine_of(words[1]);
  if (engine == nullptr) return 1;
  const int batch = std::atoi(words[2]), sets = std::atoi(words[3]), rounds = std::atoi(words[4]);
  const double length = std::atof(words[5]), start = seconds();
  std::vector<std::vector<Lane>> all(sets);
  for (auto &set : all)
    for (int i = 0; i < LANES; ++i) set.push_back(lane_of(engine, batch));
  std::vector<std::pair<int, std::string>> order;
  for (int set = 0; set < sets; ++set)
    for (int word = 6; word < count; ++word) order.push_back({set, words[word]});
  std::mt19937 random(7);
  for (int round = 0; round < rounds; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (auto [set, how] : order) std::thread([&, set = set, how = how] { run(all[set], set, how, length, start); }).join();
  }
}
