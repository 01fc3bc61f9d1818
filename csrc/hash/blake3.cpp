#include "hash/blake3.hpp"

#include "hash/blake3_lanes.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace thinwire {
namespace {

using namespace blake3_detail;

// One compression that is still to be made: the last one of a tree is made differently.
struct Node {
  ChainingValue value;
  std::array<u32, 16> message;
  u64 counter;
  u32 bytes, flags;

  std::array<u32, 16> compressed() const {
    std::array<u32, 16> v;
    mix_block(v.data(), value.data(), message.data(), counter, bytes, flags);
    for (std::size_t i = 0; i < 8; ++i) {
      v[i] ^= v[i + 8];
      v[i + 8] ^= value[i];
    }
    return v;
  }

  ChainingValue chaining_value() const {
    const std::array<u32, 16> whole = compressed();
    ChainingValue half;
    std::copy_n(whole.begin(), 8, half.begin());
    return half;
  }
};

Node parent_node(const ChainingValue& left, const ChainingValue& right, const ChainingValue& key,
                 u32 flags) {
  Node node{key, {}, 0, kBlockBytes, flags | kParent};
  std::copy(left.begin(), left.end(), node.message.begin());
  std::copy(right.begin(), right.end(), node.message.begin() + 8);
  return node;
}

// The last block of a chunk; those before it are compressed into its chaining value.
Node chunk_node(std::span<const std::byte> chunk, u64 counter, const ChainingValue& key,
                u32 flags) {
  Node node{key, {}, counter, kBlockBytes, flags | kChunkStart};
  for (; chunk.size() > kBlockBytes; chunk = chunk.subspan(kBlockBytes)) {
    std::memcpy(node.message.data(), chunk.data(), kBlockBytes);
    node.value = node.chaining_value();
    node.flags = flags;
  }
  node.message.fill(0);
  std::copy_n(chunk.data(), chunk.size(), reinterpret_cast<std::byte*>(node.message.data()));
  node.bytes = static_cast<u32>(chunk.size());
  node.flags |= kChunkEnd;
  return node;
}

// The root of a whole subtree. Its chaining values are overwritten, level by level.
ChainingValue subtree_root(ChainingValue* values, std::size_t count, const ChainingValue& key,
                           u32 flags) {
  auto* bytes = reinterpret_cast<std::byte*>(values);
  std::array<LaneInput, Blake3::kBatch / 2> parents;
  for (std::size_t pairs = count / 2; pairs > 0; pairs /= 2) {
    for (std::size_t i = 0; i < pairs; ++i)
      parents[i] =
          parent_input(bytes + 2 * i * sizeof *values, flags, false, bytes + i * sizeof *values);
    hash_inputs(std::span(parents).first(pairs), key);
  }
  return values[0];
}

} // namespace

Blake3::Blake3() : key_(kInitial), flags_(0) {}

Blake3::Blake3(const Blake3Key& key)
    : key_(std::bit_cast<ChainingValue>(key)), flags_(kKeyedHash) {}

Blake3& Blake3::update(std::span<const std::byte> data) {
  while (!data.empty()) {
    if (tail_bytes_ == kChunk) { // more follows, so it is not the root
      add_chunks(tail_.data(), 1);
      tail_bytes_ = 0;
    }
    if (tail_bytes_ == 0 && data.size() > kChunk) {
      const std::size_t to_boundary = kBatch - static_cast<std::size_t>(chunks_ % kBatch);
      const std::size_t count = std::min((data.size() - 1) / kChunk, to_boundary);
      add_chunks(data.data(), count);
      data = data.subspan(count * kChunk);
      continue;
    }
    const std::size_t taken = std::min(kChunk - tail_bytes_, data.size());
    std::memcpy(tail_.data() + tail_bytes_, data.data(), taken);
    tail_bytes_ += taken;
    data = data.subspan(taken);
  }
  return *this;
}

// The chunks are hashed side by side, and so are the parents of every whole subtree they fill.
void Blake3::add_chunks(const std::byte* data, std::size_t count) {
  std::array<ChainingValue, kBatch> values;
  std::array<LaneInput, kBatch> inputs;
  for (std::size_t i = 0; i < count; ++i)
    inputs[i] = chunk_input(data + i * kChunk, kChunk, chunks_ + i, flags_, false,
                            reinterpret_cast<std::byte*>(&values[i]));
  hash_inputs(std::span(inputs).first(count), key_);
  for (std::size_t i = 0; i < count;) {
    const std::size_t largest = std::size_t{1} << std::countr_zero(chunks_ | kBatch); // from here
    const std::size_t chunks = std::min(largest, std::bit_floor(count - i));
    add_subtree(subtree_root(&values[i], chunks, key_, flags_), chunks);
    i += chunks;
  }
}

// Whole subtrees of the same size become one, like the carries of an addition.
void Blake3::add_subtree(ChainingValue value, std::size_t chunks) {
  chunks_ += chunks;
  for (u64 subtrees = chunks_ / chunks; subtrees % 2 == 0; subtrees /= 2)
    value = parent_node(stack_[--depth_], value, key_, flags_).chaining_value();
  stack_[depth_++] = value;
}

void Blake3::finish(std::span<std::byte> out) const {
  Node root = chunk_node({tail_.data(), tail_bytes_}, chunks_, key_, flags_);
  for (std::size_t level = depth_; level-- > 0;)
    root = parent_node(stack_[level], root.chaining_value(), key_, flags_);
  root.flags |= kRoot;
  root.counter = 0;
  for (; !out.empty(); ++root.counter) {
    const std::array<u32, 16> words = root.compressed();
    const std::size_t bytes = std::min(out.size(), sizeof words);
    std::memcpy(out.data(), words.data(), bytes);
    out = out.subspan(bytes);
  }
}

Blake3Digest blake3(std::span<const std::byte> data) {
  Blake3Digest digest;
  Blake3().update(data).finish(digest);
  return digest;
}

Blake3Digest blake3_keyed(const Blake3Key& key, std::span<const std::byte> data) {
  Blake3Digest digest;
  Blake3(key).update(data).finish(digest);
  return digest;
}

} // namespace thinwire
