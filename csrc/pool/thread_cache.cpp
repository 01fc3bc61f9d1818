#include "pool/thread_cache.hpp"

#include <new>

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

ThreadCache::~ThreadCache() {
  for (const auto& inbox : inboxes_)
    delete inbox.load();
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
  if (closed_ || size_class >= kCachedClasses)
    return first->memory;
  need_inbox(size_class);
  while (!blocks.empty()) {
    magazines_[size_class].push(blocks.pop());
    bytes_ += bytes;
  }
  return first->memory;
}

// Where there is no memory for one, what others free goes to the shared lists.
void ThreadCache::need_inbox(std::size_t size_class) {
  std::atomic<Inbox*>& inbox = inboxes_[size_class];
  if (inbox.load(std::memory_order_relaxed) == nullptr)
    inbox.store(new (std::nothrow) Inbox, std::memory_order_release);
}

void ThreadCache::drop_returned(FreeList& blocks) {
  for (std::size_t c = 0; c < kCachedClasses; ++c)
    while (Block* block = take_returned(c))
      blocks.push(block);
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
  for (const auto& inbox : inboxes_)
    if (Inbox* known = inbox.load(std::memory_order_relaxed))
      known->open();
  closed_ = false;
}

void ThreadCache::close(FreeList& blocks) {
  const std::lock_guard lock(lock_);
  closed_ = true;
  drop_all(blocks);
  for (const auto& inbox : inboxes_)
    if (Inbox* known = inbox.load(std::memory_order_relaxed))
      known->close(blocks);
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
