// What is said of a CUDA call that failed, and that nothing of it stays behind.
#include "check.hpp"
#include "core/cuda_memory.hpp"

#include <array>
#include <string>
#include <utility>

namespace {

using namespace thinwire;

// What is said of an error that a call returned.
std::string said(cudaError_t error) {
  try {
    THINWIRE_CUDA(remember(error));
  } catch (const CudaError& caught) {
    return caught.what();
  }
  return "";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(success_is_silent) { CHECK(said(cudaSuccess).empty()); }

TEST(an_error_names_the_call_and_its_place) {
  const std::string text = said(cudaErrorInvalidValue);
  CHECK(has(text, "remember(error) failed (test_cuda_check.cpp:"));
  CHECK(has(text, "some words (cudaErrorName)"));
  CHECK(!has(text, ";")); // no advice where none is known
}

TEST(what_can_be_changed_is_said) {
  constexpr std::array<std::pair<cudaError_t, const char*>, 14> kAdvice{{
      {cudaErrorStubLibrary, "LD_LIBRARY_PATH"},
      {cudaErrorSystemDriverMismatch, "install it anew"},
      {cudaErrorCompatNotSupportedOnDevice, "install it anew"},
      {cudaErrorInitializationError, "'spawn'"},
      {cudaErrorNoDevice, "CUDA_VISIBLE_DEVICES"},
      {cudaErrorInvalidDevice, "CUDA_VISIBLE_DEVICES"},
      {cudaErrorDevicesUnavailable, "nvidia-smi"},
      {cudaErrorMemoryAllocation, "free device memory"},
      {cudaErrorNoKernelImageForDevice, "CMAKE_CUDA_ARCHITECTURES=native"},
      {cudaErrorInvalidResourceHandle, "the stream must belong to the device of the array"},
      {cudaErrorContextIsDestroyed, "the stream must belong to the device of the array"},
      {cudaErrorIllegalAddress, "start the process anew"},
      {cudaErrorLaunchFailure, "start the process anew"},
      {cudaErrorECCUncorrectable, "start the process anew"},
  }};
  for (const auto& [error, advice] : kAdvice) {
    check::context = advice;
    CHECK(has(said(error), advice));
  }
  check::context.clear();
}

TEST(a_driver_that_lacks_or_is_old_is_told_apart) {
  machine.driver_version = 0;
  CHECK(has(said(cudaErrorInsufficientDriver), "there is no NVIDIA driver: install one"));
  machine.driver_version = 12040;
  for (const cudaError_t error : {cudaErrorInsufficientDriver, cudaErrorUnsupportedPtxVersion})
    CHECK(
        has(said(error), "the NVIDIA driver serves CUDA 12.4: install one that serves CUDA 13.0"));
  machine = {};
}

TEST(no_error_stays_behind) {
  CHECK(!said(cudaErrorMemoryAllocation).empty());
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST(a_guard_gives_the_device_back) {
  {
    const cuda::DeviceGuard guard(1);
    CHECK(machine.current_device == 1);
  }
  CHECK(machine.current_device == 0);
  try {
    const cuda::DeviceGuard guard(7);
    CHECK(false);
  } catch (const CudaError&) {
    CHECK(machine.current_device == 0);
  }
}

TEST(memory_of_no_device_is_refused) {
  alignas(8) std::array<char, 16> bytes{};
  const auto refusal = [&](const char* address) -> std::string {
    try {
      cuda::device_of(address, 4, "x");
    } catch (const InvalidArgument& caught) {
      return caught.what();
    }
    return "";
  };
  CHECK(refusal(bytes.data()) == "x is not in the memory of a CUDA device");
  machine.memory[bytes.data()] = {cudaMemoryTypeDevice, 1};
  machine.memory[bytes.data() + 2] = {cudaMemoryTypeDevice, 1};
  machine.memory[bytes.data() + 4] = {cudaMemoryTypeManaged, 0};
  CHECK(cuda::device_of(bytes.data(), 4, "x") == 1);
  CHECK(cuda::device_of(bytes.data() + 4, 4, "x") == 0);
  CHECK(refusal(bytes.data() + 2) == "x is not aligned to its elements");
  machine = {};
}

TEST(what_is_done_beside_captures_is_so_until_the_scope_ends) {
  for (cudaStreamCaptureMode before : {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeRelaxed}) {
    machine.capture_mode = before;
    {
      const cuda::BesideCaptures beside;
      CHECK(machine.capture_mode == cudaStreamCaptureModeRelaxed);
    }
    CHECK(machine.capture_mode == before);
  }
  machine = {};
}

TEST(memory_of_a_stream_is_freed_and_its_lack_is_an_error) {
  {
    const cuda::StreamMemory memory(100, nullptr);
    CHECK(memory.get() != nullptr);
    CHECK(machine.live == 1);
  }
  CHECK(machine.live == 0);
  for (int device : {0, 1, 1}) {
    cudaSetDevice(device);
    const cuda::StreamMemory memory(100, nullptr);
    CHECK(machine.pools == 1 + device); // each device has one, which stays
  }
  machine.full = true;
  try {
    const cuda::StreamMemory memory(100, nullptr);
    CHECK(false);
  } catch (const CudaError& caught) {
    CHECK(has(caught.what(), "free device memory"));
  }
  CHECK(machine.live == 0);
  CHECK(cudaGetLastError() == cudaSuccess);
  machine = {};
}

} // namespace
