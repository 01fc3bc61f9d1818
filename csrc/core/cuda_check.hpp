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

// As in "13.0".
inline std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

inline std::string driver_advice() {
  int served = 0; // stays so without a driver
  cudaDriverGetVersion(&served);
  return (served == 0 ? "; there is no NVIDIA driver"
                      : "; the NVIDIA driver serves CUDA " + version_text(served)) +
         ": install one that serves CUDA " + version_text(CUDART_VERSION) +
         ", or build thinwire with the toolkit of an older CUDA";
}

// What the caller can change, where that is known.
inline std::string advice(cudaError_t error) {
  switch (error) {
  case cudaErrorInsufficientDriver:
  case cudaErrorUnsupportedPtxVersion:
    return driver_advice();
  case cudaErrorStubLibrary:
    return "; the toolkit's stub of libcuda was found before the driver's: take its folder out of "
           "LD_LIBRARY_PATH";
  case cudaErrorSystemDriverMismatch:
  case cudaErrorCompatNotSupportedOnDevice:
    return "; the parts of the NVIDIA driver do not fit each other: install it anew";
  case cudaErrorInitializationError:
    return "; a forked process cannot use CUDA if its parent did: start it with 'spawn'";
  case cudaErrorNoDevice:
  case cudaErrorInvalidDevice:
    return "; no such GPU is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES";
  case cudaErrorDevicesUnavailable:
    return "; another process has the GPU for itself: look at nvidia-smi";
  case cudaErrorMemoryAllocation:
    return "; free device memory (torch.cuda.empty_cache() returns what torch only keeps)";
  case cudaErrorNoKernelImageForDevice:
    return "; this build has kernels for " THINWIRE_CUDA_ARCHS
           ": reinstall from source with CMAKE_ARGS=-DCMAKE_CUDA_ARCHITECTURES=native";
  case cudaErrorInvalidResourceHandle:
  case cudaErrorContextIsDestroyed:
    return "; the stream must belong to the device of the array, and still exist";
  case cudaErrorIllegalAddress:
  case cudaErrorMisalignedAddress:
  case cudaErrorLaunchFailure:
  case cudaErrorAssert:
  case cudaErrorECCUncorrectable:
    return "; some kernel of this process, not necessarily of thinwire, broke its CUDA context: "
           "start the process anew";
  default:
    return "";
  }
}

[[noreturn]] inline void fail(cudaError_t error, const char* call, std::string_view file,
                              int line) {
  cudaGetLastError(); // or the next call, of anybody, would find this error; a broken context stays
  file.remove_prefix(file.rfind('/') + 1);
  throw CudaError(std::string(call) + " failed (" + std::string(file) + ":" + std::to_string(line) +
                  "): " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")" +
                  advice(error));
}

inline void check(cudaError_t error, const char* call, const char* file, int line) {
  if (error != cudaSuccess)
    fail(error, call, file, line);
}

// For calls whose failure nobody can do anything about. Their error does not stay behind.
inline void forgive(cudaError_t error) noexcept {
  if (error != cudaSuccess)
    cudaGetLastError();
}

// What this thread does in a scope is no business of graphs that other threads capture. CUDA would
// else take calls that are about no stream at all, as looking at an event, for part of the capture,
// and end it.
class BesideCaptures {
public:
  BesideCaptures() { forgive(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  ~BesideCaptures() { forgive(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  BesideCaptures(const BesideCaptures&) = delete;
  BesideCaptures& operator=(const BesideCaptures&) = delete;

private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed; // then what it was before
};

// Makes a device the current one for a scope.
class DeviceGuard {
public:
  explicit DeviceGuard(int device) {
    THINWIRE_CUDA(cudaGetDevice(&before_));
    THINWIRE_CUDA(cudaSetDevice(device));
  }
  ~DeviceGuard() { forgive(cudaSetDevice(before_)); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

private:
  int before_ = 0;
};

} // namespace thinwire::cuda
