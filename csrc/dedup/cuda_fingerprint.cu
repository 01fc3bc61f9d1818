// The kernels of device_*.hpp on a CUDA device.
#include "core/cuda_memory.hpp"
#include "dedup/cuda_fingerprint.hpp"
#include "dedup/device_fingerprint.hpp"

namespace thinwire::cuda {
namespace {

// kBlocksOfSm grants a kernel 128 registers.
constexpr unsigned kThreadsOfBlock = 128, kBlocksOfSm = 4;
constexpr std::uint64_t kMostBlocks = 1 << 20;

template <class Kernel>
__global__ void __launch_bounds__(kThreadsOfBlock, kBlocksOfSm)
    run_kernel(const __grid_constant__ Kernel kernel, std::uint64_t threads) {
  const std::uint64_t first = std::uint64_t{blockIdx.x} * kThreadsOfBlock + threadIdx.x;
  for (std::uint64_t i = first; i < threads; i += std::uint64_t{gridDim.x} * kThreadsOfBlock)
    kernel(i);
}

class Device {
public:
  template <class T> class Memory {
  public:
    Memory(const Device& device, std::uint64_t count)
        : memory_(count * sizeof(T), device.stream_) {}
    T* get() const { return reinterpret_cast<T*>(memory_.get()); }

  private:
    StreamMemory memory_;
  };

  explicit Device(Stream stream) : stream_(static_cast<cudaStream_t>(stream)) {}

  template <class Kernel> void launch(const Kernel& kernel, std::uint64_t threads) {
    const std::uint64_t blocks =
        std::min(device::ceil_divided(threads, kThreadsOfBlock), kMostBlocks);
    void* parameters[] = {const_cast<Kernel*>(&kernel), &threads};
    THINWIRE_CUDA(cudaLaunchKernel(run_kernel<Kernel>, dim3(static_cast<unsigned>(blocks)),
                                   dim3(kThreadsOfBlock), parameters, 0, stream_));
  }

  void upload(void* to, const void* from, std::size_t bytes) {
    THINWIRE_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_));
  }

  void download(void* to, const void* from, std::size_t bytes) {
    THINWIRE_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_));
    THINWIRE_CUDA(cudaStreamSynchronize(stream_));
  }

private:
  cudaStream_t stream_;
};

// The device of all pieces that have bytes; -1 where none has.
int common_device(std::span<const std::span<const std::byte>> pieces) {
  int common = -1;
  for (const std::span<const std::byte> piece : pieces) {
    if (piece.empty())
      continue;
    const int device = device_of(piece.data(), 1, "the data");
    if (common >= 0 && device != common)
      throw InvalidArgument("some data is on CUDA device " + std::to_string(common) +
                            ", some on device " + std::to_string(device));
    common = device;
  }
  return common;
}

} // namespace

Fingerprint fingerprint(std::span<const std::byte> data, const Profile& profile,
                        const Blake3Key* key, Stream stream) {
  if (data.empty())
    return {};
  const DeviceGuard guard(device_of(data.data(), 1, "the data"));
  Device device(stream);
  return device::fingerprint(device, data, profile, key);
}

std::vector<Blake3Digest> block_digests(std::span<const std::span<const std::byte>> pieces,
                                        std::uint64_t block_bytes, const Blake3Key* key,
                                        Stream stream) {
  if (block_bytes == 0)
    throw InvalidArgument("a block has at least one byte");
  const int common = common_device(pieces);
  if (common < 0)
    return {};
  const DeviceGuard guard(common);
  Device device(stream);
  return device::block_digests(device, pieces, block_bytes, key, device::kRound);
}

} // namespace thinwire::cuda
