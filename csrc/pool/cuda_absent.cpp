// Takes the place of cuda_runtime.cpp in a build without CUDA.
#include "pool/cuda_driver.hpp"

#include <unistd.h>

namespace thinwire::pool {

CudaDriver* cuda_driver() { return nullptr; }

std::string cuda_fault() {
  if (access("/dev/nvidiactl", F_OK) != 0)
    return "";
  return "memory is not registered with CUDA: this thinwire was built without "
         "(" THINWIRE_CUDA_REASON "); build it with THINWIRE_CUDA=ON";
}

} // namespace thinwire::pool
