// Matrices of a bucket that travel as factors, on a CUDA device, with the bits of low_rank.hpp.
#pragma once

#include "core/cuda_stream.hpp"
#include "dispatch/factored_bucket.hpp"

#include <span>

namespace thinwire::cuda {

// All memory lies on the device of the first array of the bucket. Only launches, in the order of
// the stream; working memory comes from the stream's pool. All throw InvalidArgument where the
// first array is not in device memory, CudaError, and NotBuilt in a build without CUDA.

// Fills the stand-in: copies values, and works out factors. A matrix that is all zero sends zeros.
void take_factors(const FactoredBucket& bucket, Stream stream);

// Puts what the means stand for into the bucket, keeps what was not sent unless the mean is not
// finite, and works out the next factors: those there are where the mean is zero or not finite.
// `nonfinite`, zero before, is set where what a matrix has received is not all finite.
void give_factors(const FactoredBucket& bucket, std::uint32_t* nonfinite, Stream stream);

// Works out the next factors from decoded gradients.
void learn_factors(std::span<const FactorLesson> lessons, Factor which, DType dtype, Stream stream);

} // namespace thinwire::cuda
