// What the 32 lanes of a warp do together. Kernels are written against a `Team`, one of two:
// - a CUDA warp (cuda_kernels.cu), where each thread runs its lane,
// - an emulation (tests/native/host_warp.hpp), where one thread runs the lanes in turn.
// Both run this very code, so that a test without a GPU sees all of a kernel's arithmetic.
// In a Team, an "each" is one value a lane. It has
//   lanes(f)              f(lane) in every lane, the results as an each; then all see all writes
//   own(each, lane)       the lane's value, by reference; inside lanes()
//   gather(each, source)  an each in which a lane has what lane source(lane) % kWarp had
//   agreed(each)          the value, where all lanes have the same
//   ballot(f)             bit j is f(j)
//   add(address, value), set_bits(address, mask)    atomic
//   take(counter, n)      adds n to the counter, once for the warp, atomically; what it was before
//   tally(bins, f)        adds one to bins[f(lane)] for every lane, atomically; none for kNowhere
//   last_of(counter, n)   whether this warp is the last of n to ask; that one sees what the others
//                         had written before they asked. The counter starts from zero
// Control flow outside lanes() must be the same in all lanes.
#pragma once

#include "dispatch/lane.hpp"

#if defined(__CUDACC__)
#define THINWIRE_TEAM __device__ __forceinline__
#define THINWIRE_UNROLL _Pragma("unroll") // what a lane has an array of then lies in registers
#else
#define THINWIRE_TEAM inline
#define THINWIRE_UNROLL
#endif

namespace thinwire::lane {

inline constexpr unsigned kWarp = 32;
inline constexpr unsigned kSumLanes = 16; // of sum16 and dot16
inline constexpr std::uint32_t kNowhere = ~std::uint32_t{0};

THINWIRE_TEAM unsigned count_bits(std::uint32_t mask) {
#if defined(__CUDA_ARCH__)
  return static_cast<unsigned>(__popc(mask));
#else
  return static_cast<unsigned>(__builtin_popcount(mask));
#endif
}

THINWIRE_HD std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

// f(i) for every i below n.
template <class Team, class Fn> THINWIRE_TEAM void each(const Team& team, std::size_t n, Fn f) {
  team.lanes([&](unsigned lane) {
    for (std::size_t i = lane; i < n; i += kWarp)
      f(i);
  });
}

// f() in one lane.
template <class Team, class Fn> THINWIRE_TEAM void once(const Team& team, Fn f) {
  team.lanes([&](unsigned lane) {
    if (lane == 0)
      f();
  });
}

// Combines the values of `span` neighbouring lanes (a power of two) by a commutative operation, as
// a tree whose first step pairs lanes span / 2 apart. Every lane gets the result of its span.
template <class Team, class Value, class Op>
THINWIRE_TEAM auto combined(const Team& team, Value value, unsigned span, Op op) {
  for (unsigned apart = span / 2; apart > 0; apart /= 2) {
    const auto other = team.gather(value, [=](unsigned lane) { return lane ^ apart; });
    value =
        team.lanes([&](unsigned lane) { return op(team.own(value, lane), team.own(other, lane)); });
  }
  return value;
}

// The greatest of the lanes' values.
template <class Team, class Value> THINWIRE_TEAM auto greatest(const Team& team, Value values) {
  return team.agreed(combined(team, values, kWarp, [](auto a, auto b) { return a > b ? a : b; }));
}

// The greatest f(i) for i below n; 0 for none.
template <class Team, class Fn>
THINWIRE_TEAM std::uint32_t greatest(const Team& team, std::size_t n, Fn f) {
  return greatest(team, team.lanes([&](unsigned lane) {
    std::uint32_t found = 0;
    for (std::size_t i = lane; i < n; i += kWarp) {
      const std::uint32_t next = f(i);
      found = next > found ? next : found;
    }
    return found;
  }));
}

// The sum of the lanes' counts.
template <class Team, class Value> THINWIRE_TEAM auto total(const Team& team, Value counts) {
  return team.agreed(combined(team, counts, kWarp, [](auto a, auto b) { return a + b; }));
}

// The tree at the end of sum16 and dot16, for each half of the warp.
template <class Team, class Value> THINWIRE_TEAM auto tree_sums(const Team& team, Value sums) {
  return combined(team, sums, kSumLanes,
                  [](float a, float b) { return (F::splat(a) + F::splat(b)).v; });
}

// sum16 of conventions.md over f(0) .. f(n - 1). Both halves of the warp compute it.
template <class Team, class Fn> THINWIRE_TEAM F sum16(const Team& team, std::size_t n, Fn f) {
  const auto sums = team.lanes([&](unsigned lane) {
    F sum = F::splat(0.0f);
    for (std::size_t i = lane % kSumLanes; i < n; i += kSumLanes)
      sum = sum + f(i);
    return sum.v;
  });
  return F::splat(team.agreed(tree_sums(team, sums)));
}

// Inclusive sums over the lanes.
template <class Team, class Value> THINWIRE_TEAM auto running_sums(const Team& team, Value sums) {
  for (unsigned apart = 1; apart < kWarp; apart *= 2) {
    const auto earlier =
        team.gather(sums, [=](unsigned lane) { return lane >= apart ? lane - apart : lane; });
    sums = team.lanes([&](unsigned lane) {
      return team.own(sums, lane) + (lane >= apart ? team.own(earlier, lane) : 0);
    });
  }
  return sums;
}

// What the last lane has.
template <class Team, class Value> THINWIRE_TEAM auto last(const Team& team, Value value) {
  return team.agreed(team.gather(value, [](unsigned) { return kWarp - 1; }));
}

// Replaces each item by the sum of those before it; returns the sum of all.
template <class Team, class T>
THINWIRE_TEAM T exclusive_sums(const Team& team, T* items, std::size_t n) {
  constexpr unsigned kRun = 8; // neighbours a lane reads at once
  T before = 0;
  for (std::size_t at = 0; at < n; at += kRun * kWarp) {
    const auto begin = [=](unsigned lane) { return at + std::size_t{kRun} * lane; };
    auto runs = team.lanes([&](unsigned lane) {
      T sum = 0;
      THINWIRE_UNROLL
      for (unsigned j = 0; j < kRun; ++j)
        sum += begin(lane) + j < n ? items[begin(lane) + j] : T{0};
      return sum;
    });
    auto sums = running_sums(team, runs);
    team.lanes([&](unsigned lane) {
      T sum = before + team.own(sums, lane) - team.own(runs, lane);
      for (std::size_t i = begin(lane); i < smaller(n, begin(lane) + kRun); ++i) {
        const T item = items[i];
        items[i] = sum;
        sum += item;
      }
    });
    before += last(team, sums);
  }
  return before;
}

} // namespace thinwire::lane
