// Frees in the order of a stream: one event for all of a stream's frees between two looks.
#pragma once

#include "pool/cuda_driver.hpp"
#include "pool/fence.hpp"

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

namespace thinwire::pool {

// Counts the times that frees were looked after. A free waits for the next of them: its event comes
// after what the stream had been given before the free.
class StreamFence final : public Fence {
public:
  StreamFence(CudaDriver& driver, const DeviceStream& stream) : driver_(driver), stream_(stream) {}
  ~StreamFence() override;

  // What a free of now has to wait for.
  std::uint64_t next();
  bool reached(std::uint64_t value) override;
  void settle() override;

private:
  bool flush();
  void retire();

  CudaDriver& driver_;
  const DeviceStream stream_;
  std::mutex mutex_;
  std::uint64_t flushed_ = 0; // events recorded so far
  std::uint64_t reached_ = 0;
  std::deque<Event> pending_; // of flushes reached_ + 1 to flushed_
  std::vector<Event> spare_;
};

} // namespace thinwire::pool
