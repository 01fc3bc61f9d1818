// Memory of CUDA devices that ranks of one host read from each other: through CUDA's handles
// between processes, by its address within one. All of it throws CudaError.
#pragma once

#include "ring/device.hpp"

namespace thinwire::cuda {

// On the current device, in an allocation of its own. What is taken back is kept for the next who
// wants as much of that device: freeing it would wait for all work of the device, of anybody's.
SharedMemory share(std::size_t bytes);
void unshare(std::byte* memory) noexcept;

// For kernels of the current device to read, until the process ends: closing it would wait as well.
// At least so many bytes.
const std::byte* open_shared(const std::string& handle, std::size_t bytes);

} // namespace thinwire::cuda
