// What a sum on a CUDA device begins with, and the search for gradients that are zero. Only
// launched, like encode_payloads of cuda_codec.hpp; CudaError where a launch fails.
#pragma once

#include "core/cuda_stream.hpp"
#include "dispatch/frame_work.hpp"
#include "dispatch/stretch.hpp"

namespace thinwire::cuda {

// As thinwire::fold, with all memory on the device.
void fold(std::span<const Folding> all, std::byte* work, Stream stream);

// found[i] = whether stretch i has a value that is not zero (-0 is), for zeroed `found`.
void find_nonzero(std::span<const Stretch> stretches, DType dtype, std::uint32_t* found,
                  std::byte* work, Stream stream);

// Of the working memory of either: in all for so many segments, or stretches.
std::size_t sum_work_bytes(std::span<const Folding> all);
std::size_t sum_work_bytes(std::size_t segments);

} // namespace thinwire::cuda
