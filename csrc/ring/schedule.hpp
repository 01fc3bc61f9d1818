// Who sends what to whom, as pure arithmetic: no sockets, no threads, no data.
//
// A buffer is cut into slices. Each slice has an owner, and two trees over the ranks with the owner
// as their root: up one the partial sums travel, down the other the result. A schedule is a rule
// for these trees. docs/algorithms.md gives their steps, bytes, order of addition and error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace thinwire {

// Values of a slice that travels as raw, and of one that a codec makes smaller: a slice fits in the
// cache of one core. Chunks begin at multiples of kSliceAlign and of the codec's block.
inline constexpr std::size_t kSliceValuesRaw = 32768;
inline constexpr std::size_t kSliceValuesCoded = 65536;
inline constexpr std::size_t kSliceAlign = 1024;

enum class Algorithm : std::uint8_t { direct, ring, bidirectional, hierarchical, doubling };

// Throws InvalidArgument, naming what exists, for an unknown name. "auto" is not one of them.
Algorithm algorithm_of(const std::string& name);
const char* name(Algorithm algorithm);

// The ranks, and at which site (host, or THINWIRE_SITE) each one is: equal numbers, same site.
struct Topology {
  int ranks;
  std::vector<int> site; // one a rank, or empty: each on its own
};

// What "auto" means. A pure function: every rank comes to the same answer.
Algorithm choose_algorithm(const Topology& topology, std::size_t count, bool compressed);

// A part of the buffer that travels as one frame.
struct Slice {
  std::size_t first, count; // values
  int owner;
  std::uint32_t round; // slices of one round travel together; windows are counted in rounds

  bool operator==(const Slice&) const = default;
};

// Cuts `count` values into one chunk a rank, each a multiple of `align` values but the last that is
// not empty, and each chunk into slices of at most `slice_values`. In order of round, then owner.
// Empty slices are left out, but there is always at least one slice. All but `count` must be at
// least 1.
std::vector<Slice> cut_slices(std::size_t count, int ranks, std::size_t align,
                              std::size_t slice_values);

// The same for chunks that are given: chunk i, bounds[i] to bounds[i + 1], is rank i's. The first
// bound is 0.
std::vector<Slice> cut_slices(const std::vector<std::size_t>& bounds, std::size_t slice_values);

// The chunk of each rank where sizes must be even: `count` divided as evenly as possible, the first
// ones larger by one. reduce_scatter, all_gather and all_to_all use it. ranks + 1 bounds.
std::vector<std::size_t> even_bounds(std::size_t count, int ranks);

// What one rank does with one slice.
struct Role {
  int up = -1;              // to whom its partial sum goes; -1: it is the root
  std::vector<int> up_from; // whose partial sums it adds to its own values, in this order
  int down_from = -1;       // from whom the result comes; -1: it is the root
  std::vector<int> down_to; // to whom it passes the result on
  bool up_exact = false;    // its partial sum goes up uncompressed (inside a site)
};

// `index` is the slice's position in cut_slices(): bidirectional rings alternate by it.
// Not for doubling, which has no trees.
Role role_of(Algorithm algorithm, const Topology& topology, const Slice& slice, std::size_t index,
             int rank);

// One exchange of recursive doubling. The ranks beyond the greatest power of two P first give their
// values to rank - P and get the result back in the end.
struct DoublingStep {
  enum class Kind : std::uint8_t { give, take, exchange, give_result, take_result } kind;
  int peer;
};
std::vector<DoublingStep> doubling_steps(int ranks, int rank);

} // namespace thinwire
