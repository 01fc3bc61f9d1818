// BLAKE3, plain and keyed, from its specification (O'Connor, Aumasson, Neves, Wilcox-O'Hearn,
// "BLAKE3: one function, fast everywhere", 2021).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace thinwire {

using Blake3Digest = std::array<std::byte, 32>;
using Blake3Key = std::array<std::byte, 32>;

class Blake3 {
public:
  using ChainingValue = std::array<std::uint32_t, 8>;
  static constexpr std::size_t kChunk = 1024; // bytes of a leaf of the tree
  static constexpr std::size_t kBatch = 256;  // chunks hashed at once

  Blake3();                              // hash
  explicit Blake3(const Blake3Key& key); // keyed hash: a MAC and a PRF
  Blake3& update(std::span<const std::byte> data);
  void finish(std::span<std::byte> out) const; // any length; may be called again

private:
  static constexpr std::size_t kMostDepth = 54;
  void add_chunks(const std::byte* data, std::size_t count);
  void add_subtree(ChainingValue value, std::size_t chunks);

  ChainingValue key_;
  std::uint32_t flags_;
  std::array<ChainingValue, kMostDepth> stack_; // of whole subtrees, the largest first
  std::size_t depth_ = 0;
  std::uint64_t chunks_ = 0;           // finished
  std::array<std::byte, kChunk> tail_; // the chunk that is not finished
  std::size_t tail_bytes_ = 0;
};

Blake3Digest blake3(std::span<const std::byte> data);
Blake3Digest blake3_keyed(const Blake3Key& key, std::span<const std::byte> data);

} // namespace thinwire
