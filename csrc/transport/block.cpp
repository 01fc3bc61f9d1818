#include "transport/block.hpp"

#include <algorithm>
#include <bit>

namespace thinwire {
namespace {

constexpr std::size_t kSmallest = 4096;

std::size_t size_class(std::size_t bytes) {
  return static_cast<std::size_t>(
      std::countr_zero(std::bit_ceil(std::max(bytes, kSmallest)) / kSmallest));
}

} // namespace

BlockRef BlockPool::take(std::size_t bytes) {
  const std::size_t c = size_class(bytes);
  if (free_.size() <= c)
    free_.resize(c + 1);
  if (free_[c].empty()) {
    const std::size_t capacity = kSmallest << c;
    std::unique_ptr<std::byte[]> memory(new std::byte[capacity]); // left uninitialised
    auto block = std::make_unique<Block>(*this, memory.get(), capacity);
    free_[c].push_back(block.get());
    all_.push_back({std::move(memory), std::move(block)});
    bytes_ += capacity;
  }
  Block* block = free_[c].back(); // the one used last: its memory is in the cache
  free_[c].pop_back();
  return BlockRef(*block);
}

void BlockPool::reclaim(Block& block) { free_[size_class(block.capacity)].push_back(&block); }

} // namespace thinwire
