// What a decoded matrix teaches, worked out on a CUDA device with the bits of the CPU.
#pragma once

#include "core/cuda_stream.hpp"
#include "dispatch/lesson.hpp"

#include <span>

namespace thinwire::cuda {

// Learns from all matrices, then leaves in them what is handed over now. All memory lies on the
// device of the first matrix. Only launches, in the order of the stream; working memory comes from
// the stream's pool. Throws InvalidArgument where the first matrix is not in device memory,
// CudaError, and NotBuilt in a build without CUDA.
void learn(std::span<const Lesson> lessons, Stream stream);

} // namespace thinwire::cuda
