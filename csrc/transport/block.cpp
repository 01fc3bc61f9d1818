#include "transport/block.hpp"

#include "pool/host_pool.hpp"

#include <algorithm>

namespace thinwire {

BlockPool::~BlockPool() {
  for (const auto& block : blocks_)
    if (block->data)
      HostPool::shared().free(block->data);
}

BlockRef BlockPool::take(std::size_t bytes) {
  if (empty_.empty()) {
    empty_.reserve(blocks_.size() + 1); // so that giving back takes no memory
    blocks_.push_back(std::make_unique<Block>(*this));
    empty_.push_back(blocks_.back().get());
  }
  Block& block = *empty_.back();
  block.data = HostPool::shared().allocate(bytes);
  block.bytes = bytes;
  empty_.pop_back();
  bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, bytes_);
  return BlockRef(block);
}

void BlockPool::reclaim(Block& block) {
  HostPool::shared().free(block.data);
  block.data = nullptr;
  bytes_ -= block.bytes;
  empty_.push_back(&block);
}

} // namespace thinwire
