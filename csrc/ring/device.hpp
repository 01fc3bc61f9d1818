// A device that holds the values of operations, as the engine sees it: a queue of work that is done
// in the order it was given, while the host goes on. Apart from the frames that its kernels encode
// and decode, nothing here knows what runs behind it: CUDA, or an emulation in tests.
#pragma once

#include "core/cuda_stream.hpp"
#include "dispatch/frame_work.hpp"
#include "dispatch/stretch.hpp"

#include <memory>
#include <string>
#include <utility>

namespace thinwire {

// Memory of a device that devices of other ranks on this host can open by its handle.
struct SharedMemory {
  std::byte* memory;  // aligned to 256 bytes
  std::string handle; // bytes
};

// Used by one thread, but for stream(). Whatever fails throws CudaError.
class Device {
public:
  using Mark = std::uint64_t; // a place in the queue

  Device() = default;
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  virtual cuda::Stream stream() const = 0; // the queue, for others to wait for

  // Device memory for what the queue is given until it is freed. Aligned to 256 bytes.
  virtual std::byte* allocate(std::size_t bytes) = 0;
  virtual void free(std::byte* memory) noexcept = 0;

  // Memory that others may read. It is taken back when none of them does any more and all work with
  // it is done, without waiting for other work of the device.
  virtual SharedMemory share(std::size_t bytes) = 0;
  virtual void unshare(std::byte* memory) noexcept = 0;
  // Memory that another rank shares, at least so many bytes, to be read by what the queue is given.
  virtual const std::byte* open(const std::string& handle, std::size_t bytes) = 0;
  // All work with it is done. Does not wait for other work either.
  virtual void close(const std::byte* opened) noexcept = 0;

  // Host memory must stay as it is until the work is done.
  virtual void copy_to_host(std::byte* to, const void* from, std::size_t bytes) = 0;
  virtual void copy_to_device(std::byte* to, const std::byte* from, std::size_t bytes) = 0;
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0; // on the device
  virtual void zero(void* to, std::size_t bytes) = 0;

  // As cuda::encode_payloads and cuda::decode_payloads: payloads must have been checked.
  virtual void encode(std::span<const Encoding> frames) = 0;
  virtual void decode(std::span<const Decoding> frames) = 0;
  virtual void fold(std::span<const Folding> sums) = 0;
  // found[i] = whether stretch i has a value that is not zero, for zeroed `found`.
  virtual void find_nonzero(std::span<const Stretch> stretches, DType dtype,
                            std::uint32_t* found) = 0;

  virtual Mark mark() = 0;              // behind all work so far
  virtual bool passed(Mark mark) = 0;   // never waits
  virtual bool passed(void* event) = 0; // somebody else's
  virtual void settle() noexcept = 0;   // waits for all work
};

// Memory of a device for a scope.
class DeviceMemory {
public:
  DeviceMemory(Device& device, std::size_t bytes)
      : device_(&device), memory_(device.allocate(bytes)) {}
  DeviceMemory(DeviceMemory&& other) noexcept
      : device_(other.device_), memory_(std::exchange(other.memory_, nullptr)) {}
  DeviceMemory& operator=(DeviceMemory other) noexcept {
    std::swap(device_, other.device_);
    std::swap(memory_, other.memory_);
    return *this;
  }
  ~DeviceMemory() {
    if (memory_ != nullptr)
      device_->free(memory_);
  }

  std::byte* get() const { return memory_; }

private:
  Device* device_;
  std::byte* memory_;
};

// A parameter's values in the input, from value number `first` on.
struct Watched {
  std::uint32_t parameter;
  std::size_t first, count;
};

// What an operation is told whose values lie on a device.
struct OnDevice {
  std::shared_ptr<Device> device;
  void* ready = nullptr;             // the event after which they may be read; null: now
  std::vector<Watched> watched = {}; // parameters that keep their residual if they are all zero
};

} // namespace thinwire
