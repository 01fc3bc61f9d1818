// Functions of the CUDA driver, for what the runtime has no call for: the library is not linked to
// the driver.
#pragma once

#include "core/cuda_check.hpp"

namespace thinwire::cuda {

// As CUDA 12.0 has it; null where the driver lacks it.
template <class Function> Function* driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t error = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
  if (error == cudaSuccess && found == cudaDriverEntryPointSuccess)
    return reinterpret_cast<Function*>(function);
  cudaGetLastError();
  return nullptr;
}

} // namespace thinwire::cuda
