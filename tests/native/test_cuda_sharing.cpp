// Memory that ranks of one host show to each other, on a made-up machine: none of it is ever given
// back to CUDA, which would wait for all work of the device.
#include "check.hpp"

#include "core/cuda_check.hpp"
#include "ring/cuda_sharing.hpp"

namespace {

using namespace thinwire;

constexpr std::size_t kBytes = 1024;

// As another process would get it: of memory that this one does not share.
std::string foreign_handle() {
  static int memory;
  cudaIpcMemHandle_t handle;
  cudaIpcGetMemHandle(&handle, &memory);
  return {handle.reserved, sizeof handle};
}

} // namespace

TEST(memory_that_was_taken_back_is_shared_again) {
  const SharedMemory first = cuda::share(kBytes), second = cuda::share(kBytes);
  CHECK(first.memory != second.memory && first.handle != second.handle);
  cuda::unshare(first.memory);
  const SharedMemory larger = cuda::share(2 * kBytes);
  machine.current_device = 1;
  const SharedMemory elsewhere = cuda::share(kBytes);
  machine.current_device = 0;
  CHECK(larger.memory != first.memory && elsewhere.memory != first.memory);
  const SharedMemory again = cuda::share(kBytes);
  CHECK(again.memory == first.memory && again.handle == first.handle);
  CHECK(cuda::share(kBytes).memory != first.memory);
  CHECK(machine.device_waits == 0);
}

TEST(memory_of_this_process_is_opened_by_its_address) {
  const SharedMemory shared = cuda::share(kBytes);
  CHECK(cuda::open_shared(shared.handle, kBytes) == shared.memory);
  CHECK_THROWS(CudaError, "has 1024 bytes, not 1025", cuda::open_shared(shared.handle, kBytes + 1));
  machine.current_device = 1;
  CHECK(cuda::open_shared(shared.handle, kBytes) == shared.memory);
  CHECK(machine.remembered == cudaSuccess); // that there was a way already is no error
  machine.peer_access = false;
  CHECK_THROWS(CudaError, "CUDA device 1 cannot read the memory of device 0",
               cuda::open_shared(shared.handle, kBytes));
  machine.peer_access = true;
  machine.current_device = 0;
}

TEST(memory_of_another_process_has_the_size_that_the_driver_says) {
  CHECK(cuda::open_shared(foreign_handle(), kFakeRange) != nullptr);
  CHECK(machine.device_waits == 0);
  CHECK_THROWS(CudaError, "has 4096 bytes, not 4097",
               cuda::open_shared(foreign_handle(), kFakeRange + 1));
  CHECK(machine.device_waits == 1); // it is closed again
  CHECK_THROWS(CudaError, "no handle of CUDA's", cuda::open_shared("short", kBytes));
}

TEST(a_device_that_cannot_share_keeps_nothing) {
  const std::size_t before = machine.lasting.size();
  machine.full = true;
  CHECK_THROWS(CudaError, "cudaMalloc", cuda::share(16 * kBytes));
  machine.full = false;
  machine.has_ipc = false;
  CHECK_THROWS(CudaError, "cudaIpcGetMemHandle", cuda::share(16 * kBytes));
  machine.has_ipc = true;
  CHECK(machine.lasting.size() == before);
}
