// A stand-in for CUDA's runtime: what core/cuda_check.hpp, core/cuda_memory.hpp and
// ring/cuda_sharing.cpp call of it, on a machine that the test makes up.
#pragma once

#include <cstddef>
#include <cstring>
#include <list>
#include <map>
#include <utility>
#include <vector>

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
  cudaErrorPeerAccessAlreadyEnabled,
  cudaErrorSystemDriverMismatch,
  cudaErrorCompatNotSupportedOnDevice,
};

enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeDevice, cudaMemoryTypeManaged };

struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};

using cudaStream_t = void*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeRelaxed };

struct FakeMachine {
  int driver_version = 13000;
  int current_device = 0;
  int devices = 2;
  bool full = false, peer_access = true, has_ipc = true;
  std::map<const void*, cudaPointerAttributes> memory;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
  int pools = 0;
  std::size_t live = 0;                 // allocations
  std::list<std::vector<char>> lasting; // allocations that no stream orders
  int device_waits = 0;                 // calls that wait for all work of a device
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

enum cudaMemAllocationType { cudaMemAllocationTypePinned };
enum cudaMemLocationType { cudaMemLocationTypeDevice };
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold };
struct cudaMemPoolProps {
  cudaMemAllocationType allocType;
  struct {
    cudaMemLocationType type;
    int id;
  } location;
};
using cudaMemPool_t = void*;

inline cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  ++machine.pools;
  *pool = &machine;
  return cudaSuccess;
}
inline cudaError_t cudaMemPoolDestroy(cudaMemPool_t) {
  --machine.pools;
  return cudaSuccess;
}
inline cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  return cudaSuccess;
}
inline cudaError_t cudaMallocFromPoolAsync(void** memory, std::size_t bytes, cudaMemPool_t,
                                           cudaStream_t) {
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

// There is but one thread.
inline cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, machine.capture_mode);
  return cudaSuccess;
}

inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (machine.full)
    return remember(cudaErrorMemoryAllocation);
  *memory = machine.lasting.emplace_back(bytes).data();
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  ++machine.device_waits;
  machine.lasting.remove_if([memory](const auto& known) { return known.data() == memory; });
  return cudaSuccess;
}

// A handle is the address.
struct cudaIpcMemHandle_t {
  char reserved[64];
};
constexpr unsigned cudaIpcMemLazyEnablePeerAccess = 1;

inline cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  if (!machine.has_ipc)
    return remember(cudaErrorInvalidValue);
  *handle = {};
  std::memcpy(handle->reserved, &memory, sizeof memory);
  return cudaSuccess;
}
inline cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned) {
  std::memcpy(memory, handle.reserved, sizeof *memory);
  return cudaSuccess;
}
inline cudaError_t cudaIpcCloseMemHandle(void*) {
  ++machine.device_waits;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceCanAccessPeer(int* is_possible, int, int) {
  *is_possible = machine.peer_access;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) {
  return remember(cudaErrorPeerAccessAlreadyEnabled);
}

// cuMemGetAddressRange is the only one of the driver's that is asked for: all memory is as large.
constexpr std::size_t kFakeRange = 4096;
enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess,
  cudaDriverEntryPointSymbolNotFound,
};
constexpr unsigned long long cudaEnableDefault = 0;

inline int fake_address_range(unsigned long long* base, std::size_t* bytes, unsigned long long at) {
  *base = at;
  *bytes = kFakeRange;
  return 0;
}
inline cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned,
                                                    unsigned long long,
                                                    cudaDriverEntryPointQueryResult* found) {
  *function = reinterpret_cast<void*>(fake_address_range);
  *found = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
