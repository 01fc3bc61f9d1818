// Blocks on their way back to the thread that allocated them, from those that free them.
#pragma once

#include "core/cache_line.hpp"
#include "pool/free_list.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

namespace thinwire::pool {

// A ring of places, each with a block or none, and a list for what finds no place. What is known of
// a block is only read on its way through a place: a list through the blocks moves a cache line
// between two cores for each of them, an array of pointers moves one for eight.
class Inbox {
public:
  Inbox() { open(); }

  // By any thread, without a lock. False where it is closed. Once the block is there, its pool may
  // end, so nothing is touched afterwards.
  bool put(Block* block) { return place(block) || list_.push(block); }

  // By one thread at a time. Null where it is empty.
  Block* take() {
    if (chain_ == nullptr) {
      if (Block* block = take_placed())
        return block;
      chain_ = list_.take();
    }
    Block* block = chain_;
    if (block != nullptr) {
      chain_ = block->next;
      __builtin_prefetch(chain_); // it is in the cache of the thread that has freed it
    }
    return block;
  }

  void open() {
    for (Place& place : places_)
      place.store(nullptr, std::memory_order_relaxed);
    list_.open();
  }
  // Gives all there is, and takes no more until it is opened.
  void close(FreeList& blocks) {
    for (Place& place : places_) {
      Block* block = place.exchange(closed_mark(), std::memory_order_acquire);
      if (block != nullptr && block != closed_mark())
        blocks.push(block);
    }
    blocks.push_chain(std::exchange(chain_, nullptr));
    blocks.push_chain(list_.close());
  }

private:
  using Place = std::atomic<Block*>;

  static constexpr std::uint32_t kPlaces = 128;
  static constexpr std::uint32_t kTried = 4; // some may be taken by threads that free at once

  // Two threads may find the same number: one of them goes on to the next place.
  bool place(Block* block) {
    const std::uint32_t first = next_put_.load(std::memory_order_relaxed);
    for (std::uint32_t at = first; at != first + kTried; ++at) {
      Place& place = places_[at % kPlaces];
      Block* there = place.load(std::memory_order_relaxed);
      if (there != nullptr)
        continue;
      next_put_.store(at + 1, std::memory_order_relaxed);
      if (place.compare_exchange_strong(there, block, std::memory_order_release,
                                        std::memory_order_relaxed))
        return true;
    }
    return false;
  }

  Block* take_placed() {
    for (std::uint32_t looked = 0; looked < kPlaces; ++looked) {
      Place& place = places_[next_take_++ % kPlaces];
      Block* block = place.load(std::memory_order_acquire);
      if (block == nullptr || block == closed_mark())
        continue;
      place.store(nullptr, std::memory_order_relaxed);
      return block;
    }
    return nullptr;
  }

  // Who takes, and who puts, in cache lines of their own.
  alignas(kCacheLine) std::uint32_t next_take_ = 0;
  Block* chain_ = nullptr; // what has been taken from the list and not been used
  alignas(kCacheLine) std::atomic<std::uint32_t> next_put_ = 0;
  RemoteList list_;
  alignas(kCacheLine) std::array<Place, kPlaces> places_;
};

} // namespace thinwire::pool
