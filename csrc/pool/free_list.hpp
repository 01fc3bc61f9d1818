// Lists of free blocks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace thinwire::pool {

struct Slab;

using Owner = std::uint16_t; // the number of a thread's cache

// What is known of a block. It lies beside the block's memory, not in it: links between the first
// bytes of large blocks would all compete for the same few lines of a cache, and would bring memory
// that a device has written into it.
struct Block {
  Block* next; // in a list
  std::byte* memory;
  Slab* slab;
  Owner owner; // whose magazine it came from; changed only by who has the block
};

// What stands for a block where none is taken any more: no block has this address.
inline Block* closed_mark() { return reinterpret_cast<Block*>(alignof(Block)); }

// Used by one thread at a time.
class FreeList {
public:
  bool empty() const { return head_ == nullptr; }
  std::size_t size() const { return size_; }

  void push(Block* block) {
    block->next = head_;
    head_ = block;
    ++size_;
  }

  Block* pop() {
    Block* block = head_;
    if (block) {
      head_ = block->next;
      --size_;
    }
    return block;
  }

  template <class Act> void for_each(Act act) const {
    for (Block* block = head_; block; block = block->next)
      act(*block);
  }

  void push_chain(Block* chain) {
    while (chain)
      push(std::exchange(chain, chain->next));
  }

private:
  Block* head_ = nullptr;
  std::size_t size_ = 0;
};

// Filled by any thread with one exchange each, emptied as a whole (so that no block can come back
// between a look and an exchange). While it is closed it takes nothing.
class RemoteList {
public:
  bool push(Block* block) {
    Block* head = head_.load(std::memory_order_relaxed);
    do {
      if (head == closed_mark())
        return false;
      block->next = head;
    } while (!head_.compare_exchange_weak(head, block, std::memory_order_release,
                                          std::memory_order_relaxed));
    return true;
  }

  // By whoever has opened it.
  Block* take() {
    Block* head = head_.load(std::memory_order_relaxed);
    return head == nullptr || head == closed_mark() ? nullptr : take_leaving(nullptr);
  }

  Block* close() { return take_leaving(closed_mark()); }
  void open() { head_.store(nullptr, std::memory_order_relaxed); }

private:
  Block* take_leaving(Block* left) {
    Block* head = head_.exchange(left, std::memory_order_acquire);
    return head == closed_mark() ? nullptr : head;
  }

  std::atomic<Block*> head_{closed_mark()};
};

} // namespace thinwire::pool
