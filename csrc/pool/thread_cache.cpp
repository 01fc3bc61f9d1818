#include "pool/thread_cache.hpp"

namespace thinwire::pool {

std::uint64_t ThreadCounts::live() const {
  std::uint64_t bytes = 0;
  for (std::size_t c = 0; c <= kClasses; ++c)
    bytes += live(c);
  return bytes;
}

void ThreadCounts::add(const ThreadCounts& others) {
  for (std::size_t c = 0; c <= kClasses; ++c) {
    allocations[c] += others.allocations[c];
    frees[c] += others.frees[c];
  }
  too_large_allocated += others.too_large_allocated;
  too_large_freed += others.too_large_freed;
  requested += others.requested;
  misses += others.misses;
  remote_frees += others.remote_frees;
}

void ThreadCache::count_free(std::size_t size_class, std::size_t bytes) {
  const std::lock_guard lock(lock_);
  ++counts_.frees[size_class];
  if (size_class == kTooLarge)
    counts_.too_large_freed += bytes;
}

std::byte* ThreadCache::fill(std::size_t size_class, std::size_t bytes, std::size_t requested,
                             FreeList& blocks) {
  const std::lock_guard lock(lock_);
  ++counts_.misses;
  ++counts_.allocations[size_class];
  counts_.requested += requested;
  if (size_class == kTooLarge)
    counts_.too_large_allocated += bytes;
  Block* first = blocks.pop();
  while (!closed_ && size_class < kCachedClasses && !blocks.empty()) {
    magazines_[size_class].push(blocks.pop());
    bytes_ += bytes;
  }
  return first->memory;
}

void ThreadCache::drop_returned(FreeList& blocks) {
  for (std::size_t c = 0; c < kCachedClasses; ++c) {
    blocks.push_chain(std::exchange(returned_[c], nullptr));
    blocks.push_chain(remote_[c].take());
  }
}

void ThreadCache::drop(std::size_t size_class, std::size_t keep, FreeList& blocks) {
  FreeList& magazine = magazines_[size_class];
  while (magazine.size() > keep) {
    blocks.push(magazine.pop());
    bytes_ -= size_of(size_class);
  }
}

void ThreadCache::drop_all(FreeList& blocks) {
  for (std::size_t c = 0; c < kCachedClasses; ++c)
    drop(c, 0, blocks);
}

void ThreadCache::open() {
  const std::lock_guard lock(lock_);
  for (RemoteList& list : remote_)
    list.open();
  closed_ = false;
}

void ThreadCache::close(FreeList& blocks) {
  const std::lock_guard lock(lock_);
  closed_ = true;
  drop_all(blocks);
  drop_returned(blocks);
  for (RemoteList& list : remote_)
    blocks.push_chain(list.close());
}

void ThreadCache::empty(FreeList& blocks) {
  const std::lock_guard lock(lock_);
  drop_all(blocks);
  drop_returned(blocks);
}

ThreadCounts ThreadCache::counts() const {
  const std::lock_guard lock(lock_);
  return counts_;
}

} // namespace thinwire::pool
