// What the pool needs of the CUDA driver, so that it can be tried out without one.
#pragma once

#include "pool/device_stream.hpp"

#include <cstddef>
#include <string>

namespace thinwire::pool {

using Event = void*;

class CudaDriver {
public:
  virtual ~CudaDriver() = default;

  // Whether this process has a context on the device: without one it has no work there. Asking
  // makes none.
  virtual bool is_used(int device) = 0;
  // For a thread of the pool's own: what it does belongs to a device that the process uses, if
  // there is one. Else every process would get a context on device 0.
  virtual void choose_device() = 0;

  // Pins memory, which may be mapped for reading only; empty, or what went wrong. An error does not
  // stay behind for the next call.
  virtual std::string pin(std::byte* memory, std::size_t bytes, bool is_read_only) = 0;
  virtual void unpin(std::byte* memory) = 0;

  // An event after all that the stream has been given, from `reused` if that is not null. Null
  // where that fails, and while a graph captures the stream.
  virtual Event record(const DeviceStream& stream, Event reused) = 0;
  virtual bool passed(Event event) = 0;
  virtual void wait(Event event) = 0;
  virtual void destroy(Event event) = 0;
};

// Null in a build without CUDA, and where there is no GPU.
CudaDriver* cuda_driver();

// Why there is none although the machine has a GPU, and what to do; empty where it has none.
std::string cuda_fault();

} // namespace thinwire::pool
