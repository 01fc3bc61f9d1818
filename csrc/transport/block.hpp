// Memory of frames: counted by reference, out of the process's HostPool. Used by one thread.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace thinwire {

class Block;

// Where a block goes when nobody refers to it any more.
class BlockOwner {
public:
  virtual void reclaim(Block& block) = 0;

protected:
  ~BlockOwner() = default;
};

// One stretch of memory. It may also stand for memory of somebody else's, so that its owner hears
// when the last reference is gone.
class Block {
public:
  explicit Block(BlockOwner& owner, std::byte* data = nullptr, std::size_t bytes = 0)
      : data(data), bytes(bytes), owner_(owner) {}

  std::byte* data;
  std::size_t bytes;

private:
  friend class BlockRef;
  BlockOwner& owner_;
  std::size_t references_ = 0;
};

class BlockRef {
public:
  BlockRef() = default;
  explicit BlockRef(Block& block) : block_(&block) { ++block.references_; }
  BlockRef(const BlockRef& other) : block_(other.block_) {
    if (block_)
      ++block_->references_;
  }
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~BlockRef() {
    if (block_ && --block_->references_ == 0)
      block_->owner_.reclaim(*block_);
  }

  explicit operator bool() const { return block_ != nullptr; }
  Block& operator*() const { return *block_; }
  Block* operator->() const { return block_; }

private:
  Block* block_ = nullptr;
};

// Makes blocks. The memory of one goes back to the HostPool with the last reference.
class BlockPool final : public BlockOwner {
public:
  BlockPool() = default;
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // Throws PoolExhausted.
  BlockRef take(std::size_t bytes);
  void reclaim(Block& block) override;                   // takes no memory
  std::size_t peak_bytes() const { return peak_bytes_; } // most at one time

private:
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<Block*> empty_; // those without memory
  std::size_t bytes_ = 0, peak_bytes_ = 0;
};

} // namespace thinwire
