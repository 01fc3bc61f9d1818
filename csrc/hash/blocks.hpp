// One buffer seen as consecutive blocks of any lengths, and how threads share them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace thinwire {

class Blocks {
public:
  // `ends` are offsets behind each block. Throws InvalidArgument where they do not rise from block
  // to block, or do not end where the data ends.
  Blocks(std::span<const std::byte> data, std::span<const std::int64_t> ends);

  std::size_t size() const { return ends_.size(); }
  std::size_t bytes(std::size_t i) const { return static_cast<std::size_t>(ends_[i]) - begin(i); }
  std::span<const std::byte> operator[](std::size_t i) const {
    return data_.subspan(begin(i), bytes(i));
  }

private:
  std::size_t begin(std::size_t i) const {
    return i == 0 ? 0 : static_cast<std::size_t>(ends_[i - 1]);
  }

  std::span<const std::byte> data_;
  std::span<const std::int64_t> ends_;
};

struct BlockRange {
  std::size_t first, end;
};

// The unit in which work is counted: a block costs as many as it begins.
inline constexpr std::size_t kWorkUnit = 1024;
inline std::size_t work_units(std::size_t bytes) { return (bytes + kWorkUnit - 1) / kWorkUnit; }

// Calls `work` for ranges that together are all blocks, on up to `threads` threads (0: every
// core). A range is at most kRangeUnits of work, or one block.
inline constexpr std::size_t kRangeUnits = 1024;
void for_each_range(const Blocks& blocks, unsigned threads,
                    const std::function<void(BlockRange)>& work);

} // namespace thinwire
