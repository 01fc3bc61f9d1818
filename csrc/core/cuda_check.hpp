// Calls of the CUDA runtime that throw when they fail. With *.cu, the only place that includes
// CUDA's headers.
#pragma once

#include "core/error.hpp"

#include <cuda_runtime.h>

#include <string>
#include <string_view>

// Throws CudaError with the call and its place in the source where it fails.
#define THINWIRE_CUDA(call) ::thinwire::cuda::check((call), #call, __FILE__, __LINE__)

namespace thinwire::cuda {

// What the caller can change, where that is known.
inline std::string advice(cudaError_t error) {
  switch (error) {
  case cudaErrorInsufficientDriver:
  case cudaErrorUnsupportedPtxVersion:
    return "; install an NVIDIA driver that serves CUDA " + std::to_string(CUDART_VERSION / 1000) +
           "." + std::to_string(CUDART_VERSION % 1000 / 10);
  case cudaErrorNoDevice:
    return "; no GPU is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES";
  case cudaErrorMemoryAllocation:
    return "; free device memory (torch.cuda.empty_cache() returns what torch only keeps)";
  case cudaErrorNoKernelImageForDevice:
    return "; this build has kernels for " THINWIRE_CUDA_ARCHS
           ": reinstall from source with CMAKE_ARGS=-DCMAKE_CUDA_ARCHITECTURES=native";
  case cudaErrorInvalidResourceHandle:
  case cudaErrorContextIsDestroyed:
    return "; the stream must belong to the device of the array";
  default:
    return "";
  }
}

[[noreturn]] inline void fail(cudaError_t error, const char* call, std::string_view file,
                              int line) {
  cudaGetLastError(); // or the next call, of anybody, would find this error
  file.remove_prefix(file.rfind('/') + 1);
  throw CudaError(std::string(call) + " failed (" + std::string(file) + ":" + std::to_string(line) +
                  "): " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")" +
                  advice(error));
}

inline void check(cudaError_t error, const char* call, const char* file, int line) {
  if (error != cudaSuccess)
    fail(error, call, file, line);
}

// Makes a device the current one for a scope.
class DeviceGuard {
public:
  explicit DeviceGuard(int device) {
    THINWIRE_CUDA(cudaGetDevice(&before_));
    THINWIRE_CUDA(cudaSetDevice(device));
  }
  ~DeviceGuard() { cudaSetDevice(before_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

private:
  int before_ = 0;
};

} // namespace thinwire::cuda
