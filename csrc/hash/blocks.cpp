#include "hash/blocks.hpp"

#include "core/error.hpp"
#include "core/parallel.hpp"

namespace thinwire {

Blocks::Blocks(std::span<const std::byte> data, std::span<const std::int64_t> ends)
    : data_(data), ends_(ends) {
  std::int64_t before = 0;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    if (ends[i] <= before)
      throw InvalidArgument("ends must rise from block to block, and blocks have at least one "
                            "byte: block " +
                            std::to_string(i) + " goes from " + std::to_string(before) + " to " +
                            std::to_string(ends[i]));
    before = ends[i];
  }
  if (static_cast<std::size_t>(before) != data.size())
    throw InvalidArgument("the last end must be the length of the data, " +
                          std::to_string(data.size()) + ", but is " + std::to_string(before));
}

namespace {

std::vector<BlockRange> ranges(const Blocks& blocks) {
  std::vector<BlockRange> found;
  std::size_t units = 0, first = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::size_t more = work_units(blocks.bytes(i));
    if (i > first && units + more > kRangeUnits) {
      found.push_back({first, i});
      first = i;
      units = 0;
    }
    units += more;
  }
  if (first < blocks.size())
    found.push_back({first, blocks.size()});
  return found;
}

} // namespace

void for_each_range(const Blocks& blocks, unsigned threads,
                    const std::function<void(BlockRange)>& work) {
  const std::vector<BlockRange> all = ranges(blocks);
  parallel_for(all.size(), threads, [&](std::size_t i) { work(all[i]); });
}

} // namespace thinwire
