// A stand-in for CUDA's runtime: what core/cuda_check.hpp and core/cuda_memory.hpp call of it, on a
// machine that the test makes up.
#pragma once

#include <cstddef>
#include <map>

#define CUDART_VERSION 13000

enum cudaError_t {
  cudaSuccess,
  cudaErrorInvalidValue,
  cudaErrorMemoryAllocation,
  cudaErrorInitializationError,
  cudaErrorStubLibrary,
  cudaErrorInsufficientDriver,
  cudaErrorDevicesUnavailable,
  cudaErrorNoDevice,
  cudaErrorInvalidDevice,
  cudaErrorNoKernelImageForDevice,
  cudaErrorUnsupportedPtxVersion,
  cudaErrorInvalidResourceHandle,
  cudaErrorContextIsDestroyed,
  cudaErrorIllegalAddress,
  cudaErrorMisalignedAddress,
  cudaErrorLaunchFailure,
  cudaErrorAssert,
  cudaErrorECCUncorrectable,
  cudaErrorSystemDriverMismatch,
  cudaErrorCompatNotSupportedOnDevice,
};

enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeDevice, cudaMemoryTypeManaged };

struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};

using cudaStream_t = void*;

struct FakeMachine {
  int driver_version = 13000;
  int current_device = 0;
  int devices = 2;
  bool full = false;
  std::map<const void*, cudaPointerAttributes> memory;
  std::size_t live = 0;                 // allocations
  cudaError_t remembered = cudaSuccess; // what cudaGetLastError() would give
};

inline FakeMachine machine;

inline cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess)
    machine.remembered = error;
  return error;
}

inline cudaError_t cudaGetLastError() {
  const cudaError_t error = machine.remembered;
  machine.remembered = cudaSuccess;
  return error;
}
inline const char* cudaGetErrorString(cudaError_t) { return "some words"; }
inline const char* cudaGetErrorName(cudaError_t) { return "cudaErrorName"; }
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine.driver_version;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = machine.current_device;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  if (device >= machine.devices)
    return remember(cudaErrorInvalidDevice);
  machine.current_device = device;
  return cudaSuccess;
}
inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* address) {
  const auto known = machine.memory.find(address);
  *found = known == machine.memory.end() ? cudaPointerAttributes{cudaMemoryTypeUnregistered, -1}
                                         : known->second;
  return cudaSuccess;
}
inline cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t) {
  if (machine.full)
    return remember(cudaErrorMemoryAllocation);
  *memory = new char[bytes];
  ++machine.live;
  return cudaSuccess;
}
inline cudaError_t cudaFreeAsync(void* memory, cudaStream_t) {
  delete[] static_cast<char*>(memory);
  --machine.live;
  return cudaSuccess;
}
