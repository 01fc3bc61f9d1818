// BLAKE3 of many chunks in the memory of a device: a thread a leaf, then a thread a parent, level
// by level.
#pragma once

#include "hash/blake3_node.hpp"

namespace thinwire::device {

using blake3_detail::TreeNode;
using blake3_detail::TreeStart;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// The trees of consecutive chunks and where their nodes lie. On level k a node covers kChunkBytes
// << k bytes of its chunk. It lies where its first leaf has lain, so that each level overwrites
// only what it reads, and a node without a neighbour rises by staying there. Slots are counted so
// that a chunk's first one follows from its offset alone; a few stay empty.
struct Forest {
  const std::uint8_t* data = nullptr;
  const std::uint8_t* const* origins = nullptr; // where each chunk lies; null: in `data`
  u64 begin = 0;                                // of the first chunk
  const std::int64_t* ends = nullptr;           // of chunks, as if they lay one behind the other
  u64 chunks = 0;
  TreeStart start = {};
  TreeNode* nodes = nullptr;   // one a slot of level 0
  TreeNode* digests = nullptr; // one a chunk

  static constexpr unsigned kLeafBits = 10;
  static_assert(blake3_detail::kChunkBytes == 1 << kLeafBits);

  THINWIRE_HD u64 begin_of(u64 chunk) const {
    return chunk == 0 ? begin : static_cast<u64>(ends[chunk - 1]);
  }
  THINWIRE_HD const std::uint8_t* origin_of(u64 chunk) const {
    return origins ? origins[chunk] : data + begin_of(chunk);
  }
  THINWIRE_HD u64 bytes_of(u64 chunk) const {
    return static_cast<u64>(ends[chunk]) - begin_of(chunk);
  }
  THINWIRE_HD u64 first_slot(u64 chunk, unsigned level) const {
    return slots_of(begin_of(chunk) - begin, chunk, level);
  }

  // Of a level of chunks with so many bytes.
  THINWIRE_HD static u64 slots_of(u64 bytes, u64 chunks, unsigned level) {
    return (bytes >> (kLeafBits + level)) + chunks;
  }
  THINWIRE_HD static u64 nodes_of(u64 bytes, unsigned level) {
    return ((bytes - 1) >> (kLeafBits + level)) + 1;
  }

  // The chunk that a slot belongs to.
  THINWIRE_HD u64 chunk_at(u64 slot, unsigned level) const {
    u64 low = 0, high = chunks; // it is not before low, and before high
    while (high - low > 1) {
      const u64 middle = low + (high - low) / 2;
      (first_slot(middle, level) <= slot ? low : high) = middle;
    }
    return low;
  }

  THINWIRE_HD void put(u64 chunk, u64 slot, const TreeNode& node, bool is_root) const {
    (is_root ? digests[chunk] : nodes[slot]) = node;
  }
};

// Thread i makes the leaf of slot i.
struct HashLeaves {
  Forest forest;

  THINWIRE_HD void operator()(u64 slot) const {
    const u64 chunk = forest.chunk_at(slot, 0), bytes = forest.bytes_of(chunk);
    const u64 number = slot - forest.first_slot(chunk, 0);
    const u64 leaves = Forest::nodes_of(bytes, 0), offset = number << Forest::kLeafBits;
    if (number >= leaves)
      return;
    const u64 left = bytes - offset;
    const bool is_root = leaves == 1;
    forest.put(
        chunk, slot,
        blake3_detail::leaf(
            forest.start, forest.origin_of(chunk) + offset,
            static_cast<u32>(left < blake3_detail::kChunkBytes ? left : blake3_detail::kChunkBytes),
            number, is_root),
        is_root);
  }
};

// Thread i makes the parent of slot i of the level, where there are two children.
struct HashParents {
  Forest forest;
  unsigned level;

  THINWIRE_HD void operator()(u64 slot) const {
    const u64 chunk = forest.chunk_at(slot, level), bytes = forest.bytes_of(chunk);
    const u64 number = slot - forest.first_slot(chunk, level);
    const u64 children = Forest::nodes_of(bytes, level - 1);
    if (2 * number + 1 >= children)
      return;
    const u64 left = forest.first_slot(chunk, 0) + (number << level);
    const u64 right = left + (u64{1} << (level - 1));
    const bool is_root = children == 2;
    forest.put(
        chunk, left,
        blake3_detail::parent(forest.start, forest.nodes[left], forest.nodes[right], is_root),
        is_root);
  }
};

} // namespace thinwire::device
