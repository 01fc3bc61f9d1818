// A CUDA device as the engine sees it.
#pragma once

#include "ring/device.hpp"

namespace thinwire {

// A queue of its own, a stream of high priority, on CUDA device number `index`. Throws CudaError;
// NotBuilt in a build without CUDA.
std::shared_ptr<Device> cuda_device(int index);

} // namespace thinwire
