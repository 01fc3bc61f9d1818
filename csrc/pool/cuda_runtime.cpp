// The CUDA runtime as the pool sees it. Nothing is called before it is known that there is a GPU.
#include "core/cuda_check.hpp"
#include "pool/cuda_driver.hpp"

namespace thinwire::pool {
namespace {

// Whether a call succeeded; its error does not stay behind.
bool fine(cudaError_t error) {
  if (error == cudaSuccess)
    return true;
  cudaGetLastError();
  return false;
}

class Runtime final : public CudaDriver {
public:
  std::string pin(std::byte* memory, std::size_t bytes) override {
    const cuda::BesideCaptures beside;
    const cudaError_t error = cudaHostRegister(memory, bytes, cudaHostRegisterPortable);
    return fine(error) ? "" : cudaGetErrorString(error);
  }

  void unpin(std::byte* memory) override {
    const cuda::BesideCaptures beside;
    fine(cudaHostUnregister(memory));
  }

  Event record(const DeviceStream& where, Event reused) override {
    try {
      const cuda::DeviceGuard device(where.device);
      auto event = static_cast<cudaEvent_t>(reused);
      if (!event)
        THINWIRE_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
      if (fine(cudaEventRecord(event, static_cast<cudaStream_t>(where.stream))))
        return event;
      destroy(event);
      return nullptr;
    } catch (const CudaError&) {
      return nullptr;
    }
  }

  bool passed(Event event) override {
    const cuda::BesideCaptures beside;
    return fine(cudaEventQuery(static_cast<cudaEvent_t>(event)));
  }
  void wait(Event event) override { fine(cudaEventSynchronize(static_cast<cudaEvent_t>(event))); }
  void destroy(Event event) override { fine(cudaEventDestroy(static_cast<cudaEvent_t>(event))); }
};

cudaError_t count_devices(int& devices) {
  const cudaError_t error = cudaGetDeviceCount(&devices);
  fine(error);
  return error;
}

bool has_device() {
  int devices = 0;
  return count_devices(devices) == cudaSuccess && devices > 0;
}

bool has_driver() {
  int version = 0;
  return fine(cudaDriverGetVersion(&version)) && version != 0;
}

} // namespace

CudaDriver* cuda_driver() {
  static CudaDriver* const driver = has_device() ? new Runtime : nullptr; // used until exit
  return driver;
}

std::string cuda_fault() {
  int devices = 0;
  const cudaError_t error = count_devices(devices);
  if (error == cudaSuccess || error == cudaErrorNoDevice || !has_driver())
    return "";
  return std::string("memory is not registered with CUDA: ") + cudaGetErrorString(error) +
         cuda::advice(error);
}

} // namespace thinwire::pool
