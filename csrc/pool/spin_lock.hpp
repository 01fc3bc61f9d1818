// A lock that is held for nanoseconds, and almost always by the same thread.
#pragma once

#include <atomic>
#include <thread>

namespace thinwire::pool {

class SpinLock {
public:
  void lock() {
    while (taken_.exchange(true, std::memory_order_acquire))
      std::this_thread::yield();
  }
  void unlock() { taken_.store(false, std::memory_order_release); }

private:
  std::atomic<bool> taken_ = false;
};

} // namespace thinwire::pool
