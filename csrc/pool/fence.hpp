// What a block may have to wait for before it is used again.
#pragma once

#include <atomic>
#include <cstdint>

namespace thinwire {

// A count that only rises.
class Fence {
public:
  Fence() = default;
  virtual ~Fence() = default;
  Fence(const Fence&) = delete;
  Fence& operator=(const Fence&) = delete;

  virtual bool reached(std::uint64_t value) = 0;
  // Waits for all that is under way, where that ends by itself.
  virtual void settle() {}
};

// A count that its owner raises: the sender of a socket, when what it sent has been taken.
class Ticket final : public Fence {
public:
  void advance(std::uint64_t value) {
    std::uint64_t before = count_.load(std::memory_order_relaxed);
    while (before < value && !count_.compare_exchange_weak(before, value, std::memory_order_release,
                                                           std::memory_order_relaxed)) {
    }
  }
  bool reached(std::uint64_t value) override {
    return count_.load(std::memory_order_acquire) >= value;
  }

private:
  std::atomic<std::uint64_t> count_ = 0;
};

} // namespace thinwire
