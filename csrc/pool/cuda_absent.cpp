// Takes the place of cuda_runtime.cpp in a build without CUDA.
#include "pool/cuda_driver.hpp"

namespace thinwire::pool {

CudaDriver* cuda_driver() { return nullptr; }

} // namespace thinwire::pool
