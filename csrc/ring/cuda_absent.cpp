// Takes the place of cuda_device.cpp in a build without CUDA.
#include "core/cuda_absent.hpp"
#include "ring/cuda_device.hpp"

namespace thinwire {

std::shared_ptr<Device> cuda_device(int) { cuda::absent(); }

} // namespace thinwire
