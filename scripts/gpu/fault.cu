// A library that breaks the CUDA context of the process that loads it, THALWEG_FAULT_AFTER_S seconds after that.
//
// nvcc -shared -Xcompiler -fPIC -o libfault.so fault.cu && LD_PRELOAD=$PWD/libfault.so thalweg ...
//
// A kernel writes where nothing is: from then on every call of the process gives CUDA_ERROR_ILLEGAL_ADDRESS. That is
// the error nobody can recover from, and no other way to it goes through a safe interface.
#include <cuda_runtime.h>

#include <chrono>
#include <cstdlib>
#include <thread>

__global__ void write_nowhere(int *nowhere) { *nowhere = 1; }

__attribute__((constructor)) static void plant() {
  const char *after = getenv("THALWEG_FAULT_AFTER_S");
  if (after == nullptr) return;
  std::thread([seconds = atof(after)] {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    write_nowhere<<<1, 1, 0, stream>>>(nullptr);
    cudaStreamSynchronize(stream);
  }).detach();
}
