// The kernels of warp_*.hpp on a CUDA device.
#include "core/cuda_check.hpp"
#include "dispatch/cuda_codec.hpp"
#include "dispatch/warp_frame.hpp"

#include <type_traits>

namespace thinwire::cuda {
namespace {

using lane::Batch;
using lane::kWarp;

// kBlocksOfSm grants a kernel 128 registers; left to itself, the compiler spills in some.
constexpr unsigned kWarpsOfBlock = 8, kBlocksOfSm = 2, kMostBlocks = 8192;

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
    return __shfl_sync(kAll, value, static_cast<int>(source(threadIdx.x % kWarp)));
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

private:
  static constexpr unsigned kAll = 0xffffffff;
};

template <class Args, class Kernel>
__global__ void __launch_bounds__(kWarpsOfBlock* kWarp, kBlocksOfSm)
    run_kernel(const __grid_constant__ Batch<Args> batch, const __grid_constant__ Kernel kernel) {
  constexpr std::size_t kScratch = Kernel::kScratch;
  __shared__ float scratch[kScratch == 0 ? 1 : kScratch * kWarpsOfBlock];
  const unsigned warp = threadIdx.x / kWarp;
  lane::run_units(Warp(), batch, kernel, std::size_t{blockIdx.x} * kWarpsOfBlock + warp,
                  std::size_t{gridDim.x} * kWarpsOfBlock, scratch + warp * kScratch);
}

class Launcher {
public:
  explicit Launcher(Stream stream) : stream_(static_cast<cudaStream_t>(stream)) {}

  void zero(void* address, std::size_t bytes) {
    THINWIRE_CUDA(cudaMemsetAsync(address, 0, bytes, stream_));
  }

  template <class Args, class Kernel> void launch(const Batch<Args>& batch, const Kernel& kernel) {
    static_assert(sizeof batch + sizeof kernel <= 4096, "the parameters of a CUDA kernel");
    const std::size_t blocks = ceil_div(batch.units(), kWarpsOfBlock);
    void* parameters[] = {const_cast<Batch<Args>*>(&batch), const_cast<Kernel*>(&kernel)};
    THINWIRE_CUDA(cudaLaunchKernel(run_kernel<Args, Kernel>,
                                   dim3(blocks < kMostBlocks ? blocks : kMostBlocks),
                                   dim3(kWarpsOfBlock * kWarp), parameters, 0, stream_));
  }

private:
  cudaStream_t stream_;
};

} // namespace

void encode_payload(const Layout& layout, const FrameValues& values, std::uint64_t key,
                    std::uint64_t step, std::byte* frame, std::byte* work, Stream stream) {
  Launcher launcher(stream);
  lane::encode_payload(launcher, layout, values, key, step, frame, work);
}

void decode_payload(const Layout& layout, const std::byte* frame, void* out, DType dtype,
                    bool accumulate, std::byte* work, Stream stream) {
  Launcher launcher(stream);
  lane::decode_payload(launcher, layout, frame, out, dtype, accumulate, work);
}

std::size_t work_bytes(const Layout& layout) { return lane::work_bytes(layout); }

} // namespace thinwire::cuda
