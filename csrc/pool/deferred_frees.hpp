// Blocks that have been freed and wait until something has passed.
#pragma once

#include "pool/fence.hpp"
#include "pool/free_list.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace thinwire::pool {

struct Wait {
  std::shared_ptr<Fence> fence;
  std::uint64_t value;
};

// One queue a fence, so that nobody waits behind a slow stream or socket of somebody else's. A
// block with several fences waits for one after the other.
class DeferredFrees {
public:
  struct Counts {
    std::uint64_t frees = 0;
    std::uint64_t waiting = 0;
    std::uint64_t waits = 0; // looks at a queue whose first block had to wait
  };

  // Throws std::bad_alloc; `waits` is not empty.
  void add(Block* block, std::vector<Wait> waits);
  bool empty() const { return waiting_.load(std::memory_order_relaxed) == 0; }
  // Blocks that need wait no longer, up to `most` of a queue.
  std::vector<Block*> passed(std::size_t most);
  // Waits for those that pass by themselves.
  void settle();
  Counts counts() const;

private:
  struct Entry {
    std::uint64_t value;
    Block* block;
    std::vector<Wait> then;
  };
  struct Queue {
    std::shared_ptr<Fence> fence;
    std::deque<Entry> entries; // by value
  };

  void enqueue(Block* block, std::vector<Wait> waits);
  // The blocks at the front of a queue that need wait no longer, with what they still wait for.
  std::vector<Entry> take_passed(Queue& queue, std::size_t most);

  mutable std::mutex mutex_;
  std::map<Fence*, Queue> queues_;
  Counts counts_;
  std::atomic<std::size_t> waiting_ = 0;
};

} // namespace thinwire::pool
