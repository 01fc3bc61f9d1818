// The CUDA runtime as the pool sees it. Nothing is called before it is known that there is a GPU.
#include "core/cuda_check.hpp"
#include "core/cuda_driver_function.hpp"
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

cudaError_t count_devices(int& devices) {
  const cudaError_t error = cudaGetDeviceCount(&devices);
  fine(error);
  return error;
}

// An event that was recorded there would be the graph's, and never pass.
bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return !fine(cudaStreamIsCapturing(stream, &status)) || status != cudaStreamCaptureStatusNone;
}

using ContextState = int(int device, unsigned* flags, int* is_active);

class Runtime final : public CudaDriver {
public:
  bool is_used(int device) override {
    static ContextState* const state =
        cuda::driver_function<ContextState>("cuDevicePrimaryCtxGetState");
    unsigned flags = 0;
    int is_active = 1;
    return state == nullptr || state(device, &flags, &is_active) != 0 || is_active != 0;
  }

  void choose_device() override {
    int devices = 0;
    count_devices(devices);
    for (int device = 0; device < devices; ++device)
      if (is_used(device)) {
        fine(cudaSetDevice(device));
        return;
      }
  }

  std::string pin(std::byte* memory, std::size_t bytes, bool is_read_only) override {
    const cuda::BesideCaptures beside;
    cudaError_t error = cudaHostRegister(memory, bytes, cudaHostRegisterPortable);
    if (!fine(error) && is_read_only)
      error = cudaHostRegister(memory, bytes, cudaHostRegisterPortable | cudaHostRegisterReadOnly);
    return fine(error) ? "" : cudaGetErrorString(error);
  }

  void unpin(std::byte* memory) override {
    const cuda::BesideCaptures beside;
    fine(cudaHostUnregister(memory));
  }

  Event record(const DeviceStream& where, Event reused) override {
    try {
      const cuda::DeviceGuard device(where.device);
      auto stream = static_cast<cudaStream_t>(where.stream);
      auto event = static_cast<cudaEvent_t>(reused);
      if (!event)
        THINWIRE_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
      if (!is_captured(stream) && fine(cudaEventRecord(event, stream)))
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
  void wait(Event event) override {
    const cuda::BesideCaptures beside;
    fine(cudaEventSynchronize(static_cast<cudaEvent_t>(event)));
  }
  void destroy(Event event) override { fine(cudaEventDestroy(static_cast<cudaEvent_t>(event))); }
};

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
