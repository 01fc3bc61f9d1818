#include "ring/cuda_sharing.hpp"

#include "core/cuda_check.hpp"
#include "core/cuda_driver_function.hpp"

#include <cstring>
#include <map>
#include <mutex>

namespace thinwire::cuda {
namespace {

// What this process shares. A process cannot open its own handles.
struct Share {
  std::string handle;
  std::size_t bytes;
  int device;
  bool is_spare = false;
};

std::mutex mutex;

std::map<std::byte*, Share>& shares() {
  static std::map<std::byte*, Share> all;
  return all;
}

void check_bytes(std::size_t bytes, std::size_t wanted) {
  if (bytes < wanted)
    throw CudaError("what another process shares has " + std::to_string(bytes) + " bytes, not " +
                    std::to_string(wanted));
}

int current_device() {
  int device;
  THINWIRE_CUDA(cudaGetDevice(&device));
  return device;
}

void enable_access_to(int other) {
  const int device = current_device();
  if (device == other)
    return;
  int is_possible = 0;
  THINWIRE_CUDA(cudaDeviceCanAccessPeer(&is_possible, device, other));
  if (is_possible == 0)
    throw CudaError("CUDA device " + std::to_string(device) + " cannot read the memory of device " +
                    std::to_string(other));
  const cudaError_t enabled = cudaDeviceEnablePeerAccess(other, 0);
  if (enabled == cudaErrorPeerAccessAlreadyEnabled)
    cudaGetLastError(); // no error
  else
    THINWIRE_CUDA(enabled);
}

using AddressRange = int(unsigned long long* base, std::size_t* bytes, unsigned long long at);

std::size_t bytes_behind(const void* memory) {
  AddressRange* const range = driver_function<AddressRange>("cuMemGetAddressRange");
  const auto at = reinterpret_cast<unsigned long long>(memory);
  unsigned long long base = 0;
  std::size_t bytes = 0;
  if (range == nullptr || range(&base, &bytes, at) != 0)
    throw CudaError("the driver does not say how much memory another process shares");
  return bytes - static_cast<std::size_t>(at - base);
}

} // namespace

SharedMemory share(std::size_t bytes) {
  const int device = current_device();
  const std::lock_guard lock(mutex);
  for (auto& [memory, share] : shares())
    if (share.is_spare && share.bytes == bytes && share.device == device) {
      share.is_spare = false;
      return {memory, share.handle};
    }
  void* memory = nullptr;
  THINWIRE_CUDA(cudaMalloc(&memory, bytes));
  cudaIpcMemHandle_t shared;
  const cudaError_t error = cudaIpcGetMemHandle(&shared, memory);
  if (error != cudaSuccess) {
    forgive(cudaFree(memory));
    check(error, "cudaIpcGetMemHandle", __FILE__, __LINE__);
  }
  std::string handle(reinterpret_cast<const char*>(&shared), sizeof shared);
  auto* first = static_cast<std::byte*>(memory);
  shares()[first] = {handle, bytes, device};
  return {first, std::move(handle)};
}

void unshare(std::byte* memory) noexcept {
  const std::lock_guard lock(mutex);
  shares().at(memory).is_spare = true;
}

const std::byte* open_shared(const std::string& handle, std::size_t bytes) {
  {
    const std::lock_guard lock(mutex);
    for (const auto& [memory, share] : shares())
      if (share.handle == handle) {
        check_bytes(share.bytes, bytes);
        enable_access_to(share.device);
        return memory;
      }
  }
  cudaIpcMemHandle_t shared;
  if (handle.size() != sizeof shared)
    throw CudaError("what another process shares is no handle of CUDA's");
  std::memcpy(&shared, handle.data(), sizeof shared);
  void* memory = nullptr;
  THINWIRE_CUDA(cudaIpcOpenMemHandle(&memory, shared, cudaIpcMemLazyEnablePeerAccess));
  const auto* opened = static_cast<const std::byte*>(memory);
  try {
    check_bytes(bytes_behind(opened), bytes);
  } catch (const CudaError&) {
    forgive(cudaIpcCloseMemHandle(memory));
    throw;
  }
  return opened;
}

} // namespace thinwire::cuda
