// How many records are copies of others, in bounded memory: the digests of all records while they
// fit, then of those whose digest begins with some zero bits.
// Flajolet: On adaptive sampling (an algorithm by Wegman), Computing 43, 1990; Gibbons: Distinct
// sampling, VLDB 2001.
#pragma once

#include "hash/xxh3.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace thinwire {

// What is kept depends on which records there were, and not on their order.
class DistinctSample {
public:
  struct Entry {
    Xxh3Digest digest;
    std::uint64_t times; // at least 1
  };

  // Keeps at most `limit` digests; InvalidArgument for none, or so many that they have no place.
  explicit DistinctSample(std::size_t limit);

  void add_rows(const std::byte* first, std::size_t rows, std::size_t stride, std::size_t bytes);
  void add(std::span<const std::byte> record) { add(xxh3_128(record)); }

  // The digests kept are all those that begin with so many zero bits.
  unsigned level() const { return level_; }
  std::vector<Entry> entries() const;

private:
  struct Slot {
    std::uint64_t high = 0, low = 0, times = 0; // times is 0 in a free slot
  };

  static Slot slot_of(const Xxh3Digest& digest);
  bool is_kept(const Slot& slot) const;
  void prefetch(const Xxh3Digest& digest) const;
  Slot& place_of(const Slot& wanted);
  void add(const Xxh3Digest& digest);
  void thin();
  void rebuild(std::size_t slots);

  std::size_t limit_, used_ = 0;
  unsigned level_ = 0;
  std::vector<Slot> slots_; // a power of two, at most half of it used
};

} // namespace thinwire
