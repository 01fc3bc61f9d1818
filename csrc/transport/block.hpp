// Memory of frames: counted by reference, reused, never freed while the pool lives. Used by one
// thread.
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
  Block(BlockOwner& owner, std::byte* data, std::size_t capacity)
      : data(data), capacity(capacity), owner_(owner) {}

  std::byte* const data;
  const std::size_t capacity;

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

// Blocks by size: powers of two from 4 KiB on. It grows to what was in use at one time.
class BlockPool final : public BlockOwner {
public:
  BlockRef take(std::size_t bytes);
  void reclaim(Block& block) override;
  std::size_t bytes() const { return bytes_; } // of all blocks, free ones too

private:
  struct Owned {
    std::unique_ptr<std::byte[]> memory;
    std::unique_ptr<Block> block;
  };
  std::vector<std::vector<Block*>> free_; // by size class
  std::vector<Owned> all_;
  std::size_t bytes_ = 0;
};

} // namespace thinwire
