// The nodes of BLAKE3's tree one at a time, as a thread of a CUDA kernel makes them.
#pragma once

#include "core/load_words.hpp"
#include "hash/blake3_compression.hpp"

namespace thinwire::blake3_detail {

// Where a tree starts from: its key, or the initial value, and the flags of all its nodes.
struct TreeStart {
  u32 value[8];
  u32 flags;
};

inline TreeStart tree_start(const Blake3Key* key) {
  const ChainingValue value = key ? std::bit_cast<ChainingValue>(*key) : kInitial;
  TreeStart start{{}, key ? kKeyedHash : 0};
  for (std::size_t i = 0; i < value.size(); ++i)
    start.value[i] = value[i];
  return start;
}

struct TreeNode {
  u32 value[8]; // a chaining value; the digest, at the root

  THINWIRE_HD void absorb(const u32* message, u64 counter, u32 bytes, u32 flags) {
    u32 v[16];
    mix_block(v, value, message, counter, bytes, flags);
    for (int i = 0; i < 8; ++i)
      value[i] = v[i] ^ v[i + 8];
  }
};

THINWIRE_HD TreeNode initial_node(const TreeStart& start) {
  TreeNode node;
  for (int i = 0; i < 8; ++i)
    node.value[i] = start.value[i];
  return node;
}

// A leaf of 1 to kChunkBytes bytes, the `counter`th of its message.
THINWIRE_HD TreeNode leaf(const TreeStart& start, const std::uint8_t* data, u32 bytes, u64 counter,
                          bool is_root) {
  TreeNode node = initial_node(start);
  u32 flags = start.flags | kChunkStart;
  u32 message[kBlockBytes / 4];
  for (; bytes > kBlockBytes; bytes -= kBlockBytes, data += kBlockBytes) {
    load_words<kBlockBytes / 4>(data, message);
    node.absorb(message, counter, kBlockBytes, flags);
    flags = start.flags;
  }
  load_words_padded<kBlockBytes / 4>(data, bytes, message);
  node.absorb(message, counter, bytes, flags | kChunkEnd | (is_root ? kRoot : 0));
  return node;
}

THINWIRE_HD TreeNode parent(const TreeStart& start, const TreeNode& left, const TreeNode& right,
                            bool is_root) {
  TreeNode node = initial_node(start);
  u32 message[16];
  for (int i = 0; i < 8; ++i) {
    message[i] = left.value[i];
    message[i + 8] = right.value[i];
  }
  node.absorb(message, 0, kBlockBytes, start.flags | kParent | (is_root ? kRoot : 0));
  return node;
}

} // namespace thinwire::blake3_detail
