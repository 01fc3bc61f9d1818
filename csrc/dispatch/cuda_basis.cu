// The kernels of warp_lesson.hpp on a CUDA device.
#include "dispatch/cuda_basis.hpp"

#include "core/cuda_memory.hpp"
#include "dispatch/cuda_launch.cuh"
#include "dispatch/warp_lesson.hpp"

namespace thinwire::cuda {

void learn(std::span<const Lesson> lessons, Stream stream) {
  if (lessons.empty())
    return;
  const Lesson& first = lessons.front();
  const DeviceGuard guard(device_of(first.matrix, element_bytes(first.dtype), "the matrix"));
  const StreamMemory work(lane::basis::work_bytes(lessons), static_cast<cudaStream_t>(stream));
  Launcher launcher(stream);
  lane::basis::learn(launcher, lessons, work.get());
}

} // namespace thinwire::cuda
