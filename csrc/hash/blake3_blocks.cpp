#include "hash/blake3_blocks.hpp"

#include "hash/blake3_lanes.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

namespace thinwire {
namespace {

using namespace blake3_detail;
static_assert(kWorkUnit == kChunkBytes);

constexpr std::size_t kValueBytes = sizeof(ChainingValue);
static_assert(kValueBytes == sizeof(Blake3Digest));

// The lowest level of a block's tree that has not become parents yet.
struct Level {
  std::byte* nodes; // chaining values, one after the other
  std::size_t count;
  std::byte* digest;
};

// The trees of several blocks, grown together level by level.
class Forest {
public:
  Forest(const Blocks& blocks, BlockRange range, const ChainingValue& key, u32 flags,
         Blake3Digest* digests)
      : key_(key), flags_(flags) {
    std::size_t chunks = 0;
    for (std::size_t i = range.first; i < range.end; ++i)
      chunks += work_units(blocks.bytes(i));
    values_.resize(chunks);
    inputs_.reserve(chunks);
    auto* nodes = reinterpret_cast<std::byte*>(values_.data());
    for (std::size_t i = range.first; i < range.end; ++i) {
      add_block(blocks[i], nodes, reinterpret_cast<std::byte*>(&digests[i]));
      nodes += work_units(blocks.bytes(i)) * kValueBytes;
    }
  }

  void hash() {
    // Neighbours of about the same length leave few lanes idle.
    std::ranges::stable_sort(ends_, std::greater<>(), &LaneInput::bytes);
    inputs_.insert(inputs_.end(), ends_.begin(), ends_.end());
    hash_inputs(inputs_, key_);
    while (!levels_.empty())
      hash_parents();
  }

private:
  void add_block(std::span<const std::byte> block, std::byte* nodes, std::byte* digest) {
    const std::size_t whole = (block.size() - 1) / kChunkBytes;
    for (std::size_t i = 0; i < whole; ++i)
      inputs_.push_back(chunk_input(block.data() + i * kChunkBytes, kChunkBytes, i, flags_, false,
                                    nodes + i * kValueBytes));
    const std::size_t done = whole * kChunkBytes;
    ends_.push_back(chunk_input(block.data() + done, block.size() - done, whole, flags_, whole == 0,
                                whole == 0 ? digest : nodes + whole * kValueBytes));
    if (whole > 0)
      levels_.push_back({nodes, whole + 1, digest});
  }

  // Pairs of neighbours become parents; a node without a neighbour rises as it is.
  void hash_parents() {
    inputs_.clear();
    for (const Level& level : levels_)
      for (std::size_t i = 0; i < level.count / 2; ++i)
        inputs_.push_back(
            parent_input(level.nodes + 2 * i * kValueBytes, flags_, level.count == 2,
                         level.count == 2 ? level.digest : level.nodes + i * kValueBytes));
    hash_inputs(inputs_, key_);
    std::erase_if(levels_, [](const Level& level) { return level.count == 2; });
    for (Level& level : levels_) {
      const std::size_t parents = level.count / 2;
      if (level.count % 2 == 1)
        std::memcpy(level.nodes + parents * kValueBytes,
                    level.nodes + (level.count - 1) * kValueBytes, kValueBytes);
      level.count -= parents;
    }
  }

  const ChainingValue& key_;
  const u32 flags_;
  std::vector<ChainingValue> values_;
  std::vector<LaneInput> inputs_, ends_; // whole chunks that do not end a block; those that do
  std::vector<Level> levels_;
};

} // namespace

void blake3_blocks(const Blocks& blocks, const Blake3Key* key, unsigned threads,
                   Blake3Digest* digests) {
  const ChainingValue start = key ? std::bit_cast<ChainingValue>(*key) : kInitial;
  const u32 flags = key ? kKeyedHash : 0;
  for_each_range(blocks, threads, [&](BlockRange range) {
    if (blocks.bytes(range.first) > kRangeUnits * kWorkUnit) // fills the lanes alone
      digests[range.first] =
          key ? blake3_keyed(*key, blocks[range.first]) : blake3(blocks[range.first]);
    else
      Forest(blocks, range, start, flags, digests).hash();
  });
}

} // namespace thinwire
