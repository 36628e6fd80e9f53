// How fast does the bus take page-locked memory that cores have just written?
//
// nvcc -O3 -Xcompiler -fopenmp,-mavx2 -o written_inputs written_inputs.cu && ./written_inputs
//
// One line per size and way of writing: medians of 40 rounds of the time that writing took, and of the copy to the
// device behind it by CUDA events. "beside" is the copy while the same threads write a second buffer, as in a pipeline.
#include <cuda_runtime.h>
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

constexpr size_t kSample = 3 * 224 * 224 * sizeof(float);
constexpr int kRounds = 40;

enum class Write { kNever, kPlain, kStreaming };

static void stream_out(char *to, const char *from, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 32)
    _mm256_stream_si256(reinterpret_cast<__m256i *>(to + i), _mm256_load_si256(reinterpret_cast<const __m256i *>(from + i)));
  _mm_sfence();
}

static void fill(char *to, const char *from, size_t bytes, Write how, int threads) {
  if (how == Write::kNever) return;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (size_t chunk = 0; chunk < bytes / 4096; ++chunk) {
    const size_t at = chunk * 4096;
    if (how == Write::kPlain) memcpy(to + at, from + at, 4096);
    else stream_out(to + at, from + at, 4096);
  }
}

static double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

static double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int main() {
  const size_t most = 32 * kSample;
  char *source = nullptr, *device = nullptr;
  cudaMallocHost(&source, 2 * most);
  memset(source, 1, 2 * most);
  if (cudaMalloc(&device, most) != cudaSuccess) return 1;
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaEvent_t start, end;
  cudaEventCreate(&start);
  cudaEventCreate(&end);
  printf("%-6s %-14s %-10s %7s %9s %9s %9s %8s\n", "batch", "memory", "writes", "threads", "fill us", "H2D us", "beside us", "GiB/s");
  for (int batch : {1, 8, 32}) {
    const size_t bytes = batch * kSample;
    for (unsigned flags : {(unsigned)cudaHostAllocDefault, (unsigned)cudaHostAllocWriteCombined}) {
      char *host[2];
      for (char *&buffer : host) {
        cudaHostAlloc(reinterpret_cast<void **>(&buffer), most, flags);
        memset(buffer, 2, most);
      }
      for (Write how : {Write::kNever, Write::kPlain, Write::kStreaming}) {
        for (int threads : {1, 8}) {
          if (how == Write::kNever && threads > 1) continue;
          std::vector<double> fills, alone, beside;
          for (int round = 0; round < kRounds; ++round) {
            float ms = 0;
            double begin = now_us();
            fill(host[round % 2], source + (round % 2) * most, bytes, how, threads);
            fills.push_back(now_us() - begin);
            cudaEventRecord(start, stream);
            cudaMemcpyAsync(device, host[round % 2], bytes, cudaMemcpyHostToDevice, stream);
            cudaEventRecord(end, stream);
            cudaEventSynchronize(end);
            cudaEventElapsedTime(&ms, start, end);
            alone.push_back(ms * 1e3);
            fill(host[0], source, bytes, how, threads);
            cudaEventRecord(start, stream);
            cudaMemcpyAsync(device, host[0], bytes, cudaMemcpyHostToDevice, stream);
            cudaEventRecord(end, stream);
            fill(host[1], source + most, bytes, how, threads);
            cudaEventSynchronize(end);
            cudaEventElapsedTime(&ms, start, end);
            beside.push_back(ms * 1e3);
          }
          const char *names[] = {"never", "plain", "streaming"};
          printf("%-6d %-14s %-10s %7d %9.0f %9.0f %9.0f %8.1f\n", batch,
                 flags == cudaHostAllocWriteCombined ? "write-combined" : "cached", names[static_cast<int>(how)], threads,
                 median(fills), median(alone), median(beside), bytes / (median(alone) * 1e-6) / (1 << 30));
        }
      }
      for (char *buffer : host) cudaFreeHost(buffer);
    }
  }
  return 0;
}
