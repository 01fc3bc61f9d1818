// Many inputs of BLAKE3's tree hashed side by side: chunks and parents, of any messages, one a
// SIMD lane. Internal to hash/.
#pragma once

#include "hash/blake3_compression.hpp"

#include <span>

namespace thinwire::blake3_detail {

// A chunk, or the two chaining values under a parent.
struct LaneInput {
  const std::byte* data;
  std::byte* out; // of its chaining value; the digest, where it is the root
  u64 counter;    // which chunk of its message this is
  u32 form;       // bytes, flags of every block << 16, more flags of the last one << 24

  u32 bytes() const { return form & 0xffff; } // 1 to kChunkBytes
};

inline LaneInput chunk_input(const std::byte* data, std::size_t bytes, u64 counter, u32 flags,
                             bool is_root, std::byte* out) {
  const u32 last_flags = is_root ? kChunkEnd | kRoot : kChunkEnd;
  return {data, out, counter, static_cast<u32>(bytes) | flags << 16 | last_flags << 24};
}

inline LaneInput parent_input(const std::byte* children, u32 flags, bool is_root, std::byte* out) {
  const u32 last_flags = is_root ? kRoot : 0;
  return {children, out, 0, kBlockBytes | (flags | kParent) << 16 | last_flags << 24};
}

// Fastest where inputs of the same length are neighbours. The output of an input may lie where it
// or those before it lie.
void hash_inputs(std::span<const LaneInput> inputs, const ChainingValue& key);

} // namespace thinwire::blake3_detail
