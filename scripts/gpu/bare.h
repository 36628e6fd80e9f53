// What programs on the plain API of TensorRT and CUDA have in common: enqueue.cu, replay.cu and shapes.cu.
#pragma once

#include <NvInfer.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#define CHECK(call)                                                          \
  do {                                                                       \
    const int code = static_cast<int>(call);                                 \
    if (code != 0) std::printf("%s gave %d\n", #call, code), std::exit(1);   \
  } while (0)

struct Log : nvinfer1::ILogger {
  void log(Severity severity, const char *text) noexcept override {
    if (severity <= Severity::kERROR) std::fprintf(stderr, "%s\n", text);
  }
} logger;

static double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Whether a run's word has this part, all of it.
static bool has(const std::string &how, const char *what) { return ("+" + how + "+").find("+" + std::string(what) + "+") != std::string::npos; }

// The number behind a part of a run's word.
static int number_behind(const std::string &how, const char *what, int otherwise = 0) {
  const size_t at = how.find(what);
  return at == std::string::npos ? otherwise : std::atoi(how.c_str() + at + std::strlen(what));
}

// The engine of a plan file; null where it cannot be loaded.
static nvinfer1::ICudaEngine *engine_of(const char *plan_file) {
  std::ifstream file(plan_file, std::ios::binary);
  const std::vector<char> plan((std::istreambuf_iterator<char>(file)), {});
  return nvinfer1::createInferRuntime(logger)->deserializeCudaEngine(plan.data(), plan.size());
}

// Of an FP32 tensor.
static size_t bytes_of(const nvinfer1::Dims &dims) {
  size_t bytes = 4;
  for (int i = 0; i < dims.nbDims; ++i) bytes *= size_t(dims.d[i]);
  return bytes;
}
