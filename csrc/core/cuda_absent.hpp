// What a build without CUDA says of what needs it.
#pragma once

#include "core/error.hpp"

namespace thinwire::cuda {

[[noreturn]] inline void absent() {
  throw NotBuilt("this thinwire has no CUDA kernels (" THINWIRE_CUDA_REASON
                 "): build it with THINWIRE_CUDA=ON, or move the array to host memory");
}

} // namespace thinwire::cuda
