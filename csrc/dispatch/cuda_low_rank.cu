// The kernels of warp_factors.hpp on a CUDA device.
#include "dispatch/cuda_low_rank.hpp"

#include "core/cuda_memory.hpp"
#include "dispatch/cuda_launch.cuh"
#include "dispatch/warp_factors.hpp"

namespace thinwire::cuda {
namespace {

// f(launcher, work) on the device that holds `first`.
template <class Fn>
void launch(const void* first, DType dtype, std::size_t work_bytes, Stream stream, Fn f) {
  const DeviceGuard guard(device_of(first, element_bytes(dtype), "the bucket"));
  const StreamMemory work(work_bytes, static_cast<cudaStream_t>(stream));
  Launcher launcher(stream);
  f(launcher, work.get());
}

const void* first_of(const FactoredBucket& bucket) { return bucket.matrices.front().values; }

} // namespace

void take_factors(const FactoredBucket& bucket, Stream stream) {
  if (bucket.matrices.empty())
    return;
  launch(
      first_of(bucket), bucket.dtype, lane::low_rank::work_bytes(bucket), stream,
      [&](Launcher& launcher, std::byte* work) { lane::low_rank::take(launcher, bucket, work); });
}

void give_factors(const FactoredBucket& bucket, std::uint32_t* nonfinite, Stream stream) {
  if (bucket.matrices.empty())
    return;
  launch(first_of(bucket), bucket.dtype, lane::low_rank::work_bytes(bucket), stream,
         [&](Launcher& launcher, std::byte* work) {
           lane::low_rank::give(launcher, bucket, nonfinite, work);
         });
}

void learn_factors(std::span<const FactorLesson> lessons, Factor which, DType dtype,
                   Stream stream) {
  if (lessons.empty())
    return;
  launch(lessons.front().values, dtype, lane::low_rank::work_bytes(lessons, which), stream,
         [&](Launcher& launcher, std::byte* work) {
           lane::low_rank::learn(launcher, lessons, which, dtype, work);
         });
}

} // namespace thinwire::cuda
