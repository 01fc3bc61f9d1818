// What the 32 lanes of a warp do together. Kernels are written against a `Team`, one of two:
// - a CUDA warp (cuda_kernels.cu), where each thread runs its lane,
// - an emulation (tests/native/host_warp.hpp), where one thread runs the lanes in turn.
// Both run this very code, so that a test without a GPU sees all of a kernel's arithmetic.
// In a Team, an "each" is one value a lane. It has
//   lanes(f)              f(lane) in every lane, the results as an each; then all see all writes
//   own(each, lane)       the lane's value, by reference; inside lanes()
//   gather(each, source)  an each in which a lane has what lane source(lane) had
//   agreed(each)          the value, where all lanes have the same
//   ballot(f)             bit j is f(j)
//   add(address, value), set_bits(address, mask)    atomic
// Control flow outside lanes() must be the same in all lanes.
#pragma once

#include "dispatch/lane.hpp"

#if defined(__CUDACC__)
#define THINWIRE_TEAM __device__ __forceinline__
#else
#define THINWIRE_TEAM inline
#endif

namespace thinwire::lane {

inline constexpr unsigned kWarp = 32;

THINWIRE_TEAM unsigned count_bits(std::uint32_t mask) {
#if defined(__CUDA_ARCH__)
  return static_cast<unsigned>(__popc(mask));
#else
  return static_cast<unsigned>(__builtin_popcount(mask));
#endif
}

THINWIRE_TEAM std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

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

// The greatest f(i) for i below n; 0 for none.
template <class Team, class Fn>
THINWIRE_TEAM std::uint32_t greatest(const Team& team, std::size_t n, Fn f) {
  const auto most = team.lanes([&](unsigned lane) {
    std::uint32_t found = 0;
    for (std::size_t i = lane; i < n; i += kWarp) {
      const std::uint32_t next = f(i);
      found = next > found ? next : found;
    }
    return found;
  });
  return team.agreed(
      combined(team, most, kWarp, [](std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }));
}

// The sum of the lanes' counts.
template <class Team, class Value>
THINWIRE_TEAM std::uint32_t total(const Team& team, Value counts) {
  return team.agreed(
      combined(team, counts, kWarp, [](std::uint32_t a, std::uint32_t b) { return a + b; }));
}

// sum16 of conventions.md over f(0) .. f(n - 1). Both halves of the warp compute it.
template <class Team, class Fn> THINWIRE_TEAM F sum16(const Team& team, std::size_t n, Fn f) {
  constexpr unsigned kSumLanes = 16;
  const auto sums = team.lanes([&](unsigned lane) {
    F sum = F::splat(0.0f);
    for (std::size_t i = lane % kSumLanes; i < n; i += kSumLanes)
      sum = sum + f(i);
    return sum.v;
  });
  return F::splat(team.agreed(combined(
      team, sums, kSumLanes, [](float a, float b) { return (F::splat(a) + F::splat(b)).v; })));
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
template <class Team>
THINWIRE_TEAM std::uint64_t exclusive_sums(const Team& team, std::uint64_t* items, std::size_t n) {
  std::uint64_t before = 0;
  for (std::size_t at = 0; at < n; at += kWarp) {
    const auto item = team.lanes(
        [&](unsigned lane) { return at + lane < n ? items[at + lane] : std::uint64_t{0}; });
    const auto sums = running_sums(team, item);
    team.lanes([&](unsigned lane) {
      if (at + lane < n)
        items[at + lane] = before + team.own(sums, lane) - team.own(item, lane);
    });
    before += last(team, sums);
  }
  return before;
}

} // namespace thinwire::lane
