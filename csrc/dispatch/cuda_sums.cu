// The kernels of warp_sums.hpp on a CUDA device.
#include "dispatch/cuda_launch.cuh"
#include "dispatch/cuda_sums.hpp"
#include "dispatch/warp_sums.hpp"

namespace thinwire::cuda {

void fold(std::span<const Folding> all, std::byte* work, Stream stream) {
  Launcher launcher(stream);
  lane::fold(launcher, all, work);
}

void find_nonzero(std::span<const Stretch> stretches, DType dtype, std::uint32_t* found,
                  std::byte* work, Stream stream) {
  Launcher launcher(stream);
  lane::find_nonzero(launcher, stretches, dtype, found, work);
}

std::size_t sum_work_bytes(std::span<const Folding> all) { return lane::sum_work_bytes(all); }
std::size_t sum_work_bytes(std::size_t segments) { return lane::sum_work_bytes(segments); }

} // namespace thinwire::cuda
