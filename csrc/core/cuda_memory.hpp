// Memory of CUDA devices.
#pragma once

#include "core/cuda_check.hpp"

#include <cstddef>
#include <cstdint>

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

// Device memory that lives in the order of a stream.
class StreamMemory {
public:
  StreamMemory(std::size_t bytes, cudaStream_t stream) : stream_(stream) {
    THINWIRE_CUDA(cudaMallocAsync(&memory_, bytes, stream));
  }
  ~StreamMemory() { forgive(cudaFreeAsync(memory_, stream_)); }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  std::byte* get() const { return static_cast<std::byte*>(memory_); }

private:
  void* memory_ = nullptr;
  cudaStream_t stream_;
};

} // namespace thinwire::cuda
