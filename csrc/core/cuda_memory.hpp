// Memory of CUDA devices.
#pragma once

#include "core/cuda_check.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

namespace thinwire::cuda {

// The device that holds the memory of `what`. Throws InvalidArgument where none does, or where the
// address is no multiple of `alignment`.
inline int device_of(const void* memory, std::size_t alignment, const char* what) {
  cudaPointerAttributes found;
  THINWIRE_CUDA(cudaPointerGetAttributes(&found, memory));
  if (found.type != cudaMemoryTypeDevice && found.type != cudaMemoryTypeManaged)
    throw InvalidArgument(std::string(what) + " is not in the memory of a CUDA device");
  if (reinterpret_cast<std::uintptr_t>(memory) % alignment != 0)
    throw InvalidArgument(std::string(what) + " is not aligned to its elements");
  return found.device;
}

// Memory of a device that keeps up to so many bytes of what was freed: getting them again needs no
// driver. The default pool keeps nothing.
class MemoryPool {
public:
  MemoryPool(int device, std::uint64_t kept) {
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location = {cudaMemLocationTypeDevice, device};
    THINWIRE_CUDA(cudaMemPoolCreate(&pool_, &properties));
    try {
      THINWIRE_CUDA(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &kept));
    } catch (const CudaError&) {
      forgive(cudaMemPoolDestroy(pool_));
      throw;
    }
  }
  ~MemoryPool() { forgive(cudaMemPoolDestroy(pool_)); }
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  std::byte* allocate(std::size_t bytes, cudaStream_t stream) {
    void* memory = nullptr;
    THINWIRE_CUDA(cudaMallocFromPoolAsync(&memory, bytes, pool_, stream));
    return static_cast<std::byte*>(memory);
  }

private:
  cudaMemPool_t pool_ = nullptr;
};

// Of the current device, for what lives no longer than a call. It lasts until the process ends,
// when CUDA may be gone already.
inline MemoryPool& pool_of_calls() {
  constexpr std::uint64_t kKept = std::uint64_t{64} << 20;
  static std::mutex mutex;
  static auto& pools = *new std::map<int, MemoryPool>;
  int device = 0;
  THINWIRE_CUDA(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  return pools.try_emplace(device, device, kKept).first->second;
}

// Device memory that lives in the order of a stream, which is of the current device.
class StreamMemory {
public:
  StreamMemory(std::size_t bytes, cudaStream_t stream)
      : memory_(pool_of_calls().allocate(bytes, stream)), stream_(stream) {}
  ~StreamMemory() { forgive(cudaFreeAsync(memory_, stream_)); }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  std::byte* get() const { return memory_; }

private:
  std::byte* const memory_;
  const cudaStream_t stream_;
};

} // namespace thinwire::cuda
