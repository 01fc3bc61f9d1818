// A stretch of memory that is cut into blocks of one size.
#pragma once

#include "core/cache_line.hpp"
#include "pool/free_list.hpp"
#include "pool/region.hpp"

#include <cstddef>
#include <cstdint>
#include <new>

namespace thinwire::pool {

class Core;

// What threads read, what is written under the lock, and blocks, which any thread may write, lie in
// cache lines of their own.
struct alignas(kCacheLine) Slab {
  Slab(Core& core, const Extent& extent, std::size_t size_class, std::size_t block_bytes,
       std::size_t size)
      : core(&core), memory(extent.begin()), block_bytes(block_bytes), size(size),
        size_class(size_class),
        blocks(static_cast<Block*>(::operator new(size_of_blocks(size), kAligned))),
        extent(extent) {}
  ~Slab() { ::operator delete(blocks, size_of_blocks(size), kAligned); }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  bool has_room() const { return !free.empty() || carved < size; }

  Block& block_at(const std::byte* address) const {
    if (size == 1)
      return blocks[0];
    // A slab of several blocks is small: a narrow division is a short one.
    const auto offset = static_cast<std::uint32_t>(address - memory);
    return blocks[offset / static_cast<std::uint32_t>(block_bytes)];
  }

  Core* const core;
  std::byte* const memory;
  const std::size_t block_bytes;
  const std::size_t size; // blocks
  const std::size_t size_class;
  Block* const blocks; // each begins to be when it is carved
  const Extent extent;

  // Under the lock of the shared lists.
  alignas(kCacheLine) FreeList free;
  std::size_t carved = 0; // blocks that have been used so far
  std::size_t used = 0;   // blocks in use or in a magazine
  Slab* next = nullptr;   // among those of its class that have room
  Slab* previous = nullptr;

private:
  static constexpr std::align_val_t kAligned{kCacheLine};

  static std::size_t size_of_blocks(std::size_t size) {
    return (size * sizeof(Block) + kCacheLine - 1) / kCacheLine * kCacheLine;
  }
};

} // namespace thinwire::pool
