// A warp and a launch of warp.hpp and warp_frame.hpp on a CUDA device.
#pragma once

#include "core/cuda_check.hpp"
#include "core/cuda_stream.hpp"
#include "dispatch/warp_frame.hpp"

#include <cstring>
#include <type_traits>

namespace thinwire::cuda {

using lane::Batch;
using lane::kWarp;

// Small blocks, of which as many fit as registers allow: kBlocksOfSm leaves a kernel 128 of them.
constexpr unsigned kWarpsOfBlock = 4, kBlocksOfSm = 4;

// One lane of a warp; see warp.hpp.
class Warp {
public:
  template <class Fn> __device__ __forceinline__ auto lanes(Fn f) const {
    const unsigned lane = threadIdx.x % kWarp;
    if constexpr (std::is_void_v<decltype(f(lane))>) {
      f(lane);
      __syncwarp();
    } else {
      const auto value = f(lane);
      __syncwarp();
      return value;
    }
  }

  template <class T> __device__ __forceinline__ T& own(T& value, unsigned) const { return value; }

  template <class T, class Fn> __device__ __forceinline__ T gather(T value, Fn source) const {
    const auto from = static_cast<int>(source(threadIdx.x % kWarp));
    if constexpr (std::is_same_v<T, lane::Quad>)
      return lane::quad_of(
          [&](unsigned j) { return lane::F{__shfl_sync(kAll, value.v[j].v, from)}; });
    else
      return __shfl_sync(kAll, value, from);
  }

  template <class T> __device__ __forceinline__ T agreed(T value) const { return value; }

  template <class Fn> __device__ __forceinline__ std::uint32_t ballot(Fn f) const {
    return __ballot_sync(kAll, f(threadIdx.x % kWarp));
  }

  static __device__ __forceinline__ void add(std::uint32_t* address, std::uint32_t value) {
    atomicAdd(address, value);
  }
  static __device__ __forceinline__ void add(std::uint64_t* address, std::uint64_t value) {
    static_assert(sizeof(unsigned long long) == sizeof value);
    atomicAdd(reinterpret_cast<unsigned long long*>(address), value);
  }
  static __device__ __forceinline__ void set_bits(std::uint32_t* address, std::uint32_t mask) {
    atomicOr(address, mask);
  }

  static __device__ __forceinline__ std::uint64_t take(std::uint64_t* counter, std::uint64_t n) {
    unsigned long long before = 0;
    if (threadIdx.x % kWarp == 0)
      before = atomicAdd(reinterpret_cast<unsigned long long*>(counter), n);
    return __shfl_sync(kAll, before, 0);
  }

  template <class Fn> __device__ __forceinline__ void tally(std::uint32_t* bins, Fn f) const {
    const unsigned lane = threadIdx.x % kWarp;
    const std::uint32_t bin = f(lane);
    const unsigned alike = __match_any_sync(kAll, bin);
    if (bin != lane::kNowhere && lane + 1 == static_cast<unsigned>(__ffs(static_cast<int>(alike))))
      atomicAdd(bins + bin, lane::count_bits(alike));
    __syncwarp();
  }

  __device__ __forceinline__ bool last_of(std::uint32_t* counter, std::size_t n) const {
    __threadfence();
    __syncwarp();
    std::uint32_t before = 0;
    if (threadIdx.x % kWarp == 0)
      before = atomicAdd(counter, 1u);
    before = __shfl_sync(kAll, before, 0);
    __threadfence();
    __syncwarp();
    return before + 1 == n;
  }

private:
  static constexpr unsigned kAll = 0xffffffff;
};

template <class Args, class Kernel>
__global__ void __launch_bounds__(kWarpsOfBlock* kWarp, kBlocksOfSm)
    run_kernel(const __grid_constant__ Batch<Args> batch, const __grid_constant__ Kernel kernel,
               std::size_t scratch_of_warp) {
  extern __shared__ float4 scratch[];
  const std::size_t warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  lane::run_units(Warp(), batch, kernel, blockIdx.x * warps + warp, gridDim.x * warps,
                  reinterpret_cast<float*>(scratch) + warp * scratch_of_warp);
}

// A part of a table, as the parameter of a kernel, which a launch copies.
struct TablePart {
  static constexpr std::size_t kBytes = 28 * 1024; // of the 32 KiB there are
  std::uint64_t words[kBytes / sizeof(std::uint64_t)];
};

static __global__ void store_part(const __grid_constant__ TablePart part, std::uint64_t* to,
                                  unsigned words) {
  for (unsigned i = threadIdx.x; i < words; i += blockDim.x)
    to[i] = part.words[i];
}

class Launcher {
public:
  explicit Launcher(Stream stream) : stream_(static_cast<cudaStream_t>(stream)) {}

  void zero(void* address, std::size_t bytes) {
    THINWIRE_CUDA(cudaMemsetAsync(address, 0, bytes, stream_));
  }

  // Whole words of eight bytes.
  void store(void* to, const void* from, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += TablePart::kBytes) {
      const std::size_t some = lane::smaller(TablePart::kBytes, bytes - at);
      TablePart part;
      std::memcpy(part.words, static_cast<const std::byte*>(from) + at, some);
      auto* words = reinterpret_cast<std::uint64_t*>(static_cast<std::byte*>(to) + at);
      auto count = static_cast<unsigned>(some / sizeof *words);
      void* parameters[] = {&part, &words, &count};
      THINWIRE_CUDA(cudaLaunchKernel(store_part, dim3(1), dim3(256), parameters, 0, stream_));
    }
  }

  // As many warps as the device holds at once, or as there are units; each takes unit after unit.
  template <class Args, class Kernel>
  void launch(const Batch<Args>& batch, const Kernel& kernel, std::size_t scratch_of_warp) {
    static_assert(sizeof batch + sizeof kernel + sizeof scratch_of_warp <= 4096,
                  "the parameters of a CUDA kernel");
    const std::size_t warps =
        scratch_of_warp == 0 ? kWarpsOfBlock
                             : lane::smaller(kWarpsOfBlock, lane::kMostScratch / scratch_of_warp);
    const std::size_t bytes = warps * scratch_of_warp * sizeof(float);
    const auto threads = static_cast<unsigned>(warps * kWarp);
    const auto* run = reinterpret_cast<const void*>(&run_kernel<Args, Kernel>);
    const auto blocks = static_cast<unsigned>(
        lane::smaller(ceil_div(batch.units, warps), blocks_of_device(run, threads, bytes)));
    void* parameters[] = {const_cast<Batch<Args>*>(&batch), const_cast<Kernel*>(&kernel),
                          &scratch_of_warp};
    THINWIRE_CUDA(cudaLaunchKernel(run, dim3(blocks), dim3(threads), parameters, bytes, stream_));
  }

private:
  static std::size_t blocks_of_device(const void* kernel, unsigned threads, std::size_t bytes) {
    int device, processors, blocks;
    THINWIRE_CUDA(cudaGetDevice(&device));
    THINWIRE_CUDA(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    THINWIRE_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel,
                                                                static_cast<int>(threads), bytes));
    return static_cast<std::size_t>(processors) * static_cast<std::size_t>(blocks);
  }

  cudaStream_t stream_;
};

} // namespace thinwire::cuda
