#include "pool/deferred_frees.hpp"

#include <algorithm>

namespace thinwire::pool {

void DeferredFrees::add(Block* block, std::vector<Wait> waits) {
  const std::lock_guard lock(mutex_);
  enqueue(block, std::move(waits));
  ++counts_.frees;
  waiting_.fetch_add(1, std::memory_order_relaxed);
}

void DeferredFrees::enqueue(Block* block, std::vector<Wait> waits) {
  const Wait first = std::move(waits.back());
  waits.pop_back();
  Queue& queue = queues_[first.fence.get()];
  queue.fence = first.fence;
  const auto place =
      std::upper_bound(queue.entries.begin(), queue.entries.end(), first.value,
                       [](std::uint64_t value, const Entry& e) { return value < e.value; });
  queue.entries.insert(place, {first.value, block, std::move(waits)});
}

std::vector<DeferredFrees::Entry> DeferredFrees::take_passed(Queue& queue, std::size_t most) {
  std::vector<Entry> found;
  while (!queue.entries.empty() && found.size() < most) {
    if (!queue.fence->reached(queue.entries.front().value)) {
      ++counts_.waits;
      break;
    }
    found.push_back(std::move(queue.entries.front()));
    queue.entries.pop_front();
  }
  return found;
}

std::vector<Block*> DeferredFrees::passed(std::size_t most) {
  const std::lock_guard lock(mutex_);
  std::vector<Block*> free;
  std::vector<Entry> wait_on;
  for (auto at = queues_.begin(); at != queues_.end();) {
    for (Entry& entry : take_passed(at->second, most)) {
      if (entry.then.empty())
        free.push_back(entry.block);
      else
        wait_on.push_back(std::move(entry));
    }
    at = at->second.entries.empty() ? queues_.erase(at) : std::next(at);
  }
  for (Entry& entry : wait_on)
    enqueue(entry.block, std::move(entry.then));
  waiting_.fetch_sub(free.size(), std::memory_order_relaxed);
  return free;
}

void DeferredFrees::settle() {
  const std::lock_guard lock(mutex_);
  for (auto& [fence, queue] : queues_)
    fence->settle();
}

DeferredFrees::Counts DeferredFrees::counts() const {
  const std::lock_guard lock(mutex_);
  Counts counts = counts_;
  counts.waiting = waiting_.load(std::memory_order_relaxed);
  return counts;
}

} // namespace thinwire::pool
