// The magazines of a thread: free blocks that it can use without asking anybody.
#pragma once

#include "core/cache_line.hpp"
#include "pool/free_list.hpp"
#include "pool/inbox.hpp"
#include "pool/size_class.hpp"
#include "pool/spin_lock.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace thinwire::pool {

inline constexpr std::size_t kCachedClasses = class_of(4 * kMiB) + 1;

// How many blocks a magazine holds at most.
constexpr std::size_t capacity_of(std::size_t size_class) {
  return std::clamp<std::size_t>(2 * kMiB / size_of(size_class), 2, 64);
}

// What threads have done. A free counts where it was made, so that in the counts of one thread
// there may be more frees than allocations: only sums say what is live (modulo 2^64).
struct ThreadCounts {
  std::array<std::uint64_t, kClasses + 1> allocations = {}; // by class
  std::array<std::uint64_t, kClasses + 1> frees = {};
  std::uint64_t too_large_allocated =
      0; // bytes; those of all other classes follow from their number
  std::uint64_t too_large_freed = 0;
  std::uint64_t requested = 0;
  std::uint64_t misses = 0;
  std::uint64_t remote_frees = 0;

  std::uint64_t allocated(std::size_t size_class) const {
    return size_class == kTooLarge ? too_large_allocated
                                   : allocations[size_class] * size_of(size_class);
  }
  std::uint64_t live(std::size_t size_class) const {
    return size_class == kTooLarge
               ? too_large_allocated - too_large_freed
               : (allocations[size_class] - frees[size_class]) * size_of(size_class);
  }
  std::uint64_t live() const;
  void add(const ThreadCounts& others);
};

// Used by its thread; others put blocks into its inboxes, and look in under the lock. It outlives
// the thread and serves the next.
class ThreadCache {
public:
  static constexpr std::size_t kMostBytes = 16 * kMiB; // in all magazines together
  static constexpr std::uint32_t kSampling = 256;      // one allocation in so many is timed

  explicit ThreadCache(Owner number) : number(number) {}
  ~ThreadCache();
  ThreadCache(const ThreadCache&) = delete;
  ThreadCache& operator=(const ThreadCache&) = delete;

  const Owner number;

  // Whether this allocation is one of those that are timed.
  bool is_due() { return ++ticks_ % kSampling == 0; }
  bool was_due() const { return ticks_ % kSampling == 0; }

  std::byte* allocate(std::size_t size_class, std::size_t requested) {
    const std::lock_guard lock(lock_);
    Block* block = magazines_[size_class].pop();
    if (block)
      bytes_ -= size_of(size_class);
    else
      block = take_returned(size_class);
    if (!block)
      return nullptr;
    ++counts_.allocations[size_class];
    counts_.requested += requested;
    return block->memory;
  }

  // False where the cache is closed; `surplus` is what is too much for it.
  bool free(std::size_t size_class, Block* block, FreeList& surplus) {
    const std::lock_guard lock(lock_);
    if (closed_)
      return false;
    ++counts_.frees[size_class];
    FreeList& magazine = magazines_[size_class];
    magazine.push(block);
    bytes_ += size_of(size_class);
    if (magazine.size() > capacity_of(size_class)) [[unlikely]]
      drop(size_class, capacity_of(size_class) / 2, surplus);
    if (bytes_ > kMostBytes) [[unlikely]]
      drop_all(surplus);
    return true;
  }

  // By another thread than the cache's. False where there is no room for it, or it is closed.
  bool free_remotely(std::size_t size_class, Block* block) {
    Inbox* inbox = inboxes_[size_class].load(std::memory_order_acquire);
    return inbox != nullptr && inbox->put(block);
  }
  void count_remote_free(std::size_t size_class) {
    const std::lock_guard lock(lock_);
    ++counts_.remote_frees;
    ++counts_.frees[size_class];
  }
  // A free that no magazine takes.
  void count_free(std::size_t size_class, std::size_t bytes);
  // The first of `blocks`, counted as allocated, after a miss; the others go to the magazine.
  std::byte* fill(std::size_t size_class, std::size_t bytes, std::size_t requested,
                  FreeList& blocks);

  void open();
  // All blocks it has; then it takes no more until it is opened.
  void close(FreeList& blocks);
  void empty(FreeList& blocks); // the same, but it stays open
  ThreadCounts counts() const;

private:
  Block* take_returned(std::size_t size_class) {
    Inbox* inbox = inboxes_[size_class].load(std::memory_order_relaxed);
    return inbox != nullptr ? inbox->take() : nullptr;
  }
  void need_inbox(std::size_t size_class);
  void drop_returned(FreeList& blocks);
  void drop(std::size_t size_class, std::size_t keep, FreeList& blocks);
  void drop_all(FreeList& blocks);

  mutable SpinLock lock_;
  bool closed_ = true;
  std::uint32_t ticks_ = 0;
  std::size_t bytes_ = 0;
  std::array<FreeList, kCachedClasses> magazines_;
  ThreadCounts counts_;
  // What others read. Each is made when the cache first gets blocks of its class.
  alignas(kCacheLine) std::array<std::atomic<Inbox*>, kCachedClasses> inboxes_ = {};
};

} // namespace thinwire::pool
