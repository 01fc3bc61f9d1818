// Tiles of whole blocks in a warp's fast memory, and the scales of their blocks.
#pragma once

#include "dispatch/warp_kernel.hpp"

namespace thinwire::lane {

// Quads in fast memory, 16 bytes an access; of its own accord, the compiler takes stores apart.
THINWIRE_TEAM Quad get(const float* base, unsigned i) {
#if defined(__CUDA_ARCH__)
  return __builtin_bit_cast(Quad, *reinterpret_cast<const float4*>(base + i));
#else
  return *reinterpret_cast<const Quad*>(base + i);
#endif
}
THINWIRE_TEAM void put(float* base, unsigned i, Quad q) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};"
               :
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(base + i))), "f"(q.v[0].v),
                 "f"(q.v[1].v), "f"(q.v[2].v), "f"(q.v[3].v)
               : "memory");
#else
  *reinterpret_cast<Quad*>(base + i) = q;
#endif
}

THINWIRE_TEAM unsigned log2_of(unsigned power) {
#if defined(__CUDA_ARCH__)
  return static_cast<unsigned>(__ffs(static_cast<int>(power))) - 1;
#else
  return static_cast<unsigned>(__builtin_ctz(power));
#endif
}

// Tile number `unit` of a segment of n values.
template <BlockCodec C> struct Tile {
  // A quad has one digit of its bytes; single bits have none.
  static constexpr unsigned kDigits = C::kRadix == 2 ? 1 : codes_per_byte(C::kRadix);

  // Values of a whole tile.
  static THINWIRE_HD constexpr std::size_t values(std::size_t block) {
    std::size_t most = C::kSmallestBlock;
    while (most < 1024)
      most *= 2;
    return block > most ? block : most;
  }
  static_assert(values(0) / C::kSmallestBlock <= kWarp, "a lane has the scale of a block");
  static_assert(kLargestBlock <= kMostScratch);

  THINWIRE_TEAM Tile(std::size_t n, std::size_t block_values, std::size_t unit)
      : sections(block_sections(n, block_values, C::kRadix)), at(unit * values(block_values)),
        end(smaller(n, at + values(block_values))), block(static_cast<unsigned>(block_values)),
        doublings(log2_of(block / kSmallest)), first_block(unit * (values(block_values) / block)),
        blocks(block_of(static_cast<unsigned>(end - at) + block - 1)) {}

  // Of the i-th value, or the i-th word of codes.
  THINWIRE_TEAM unsigned block_of(unsigned i) const { return (i >> doublings) / kSmallest; }
  THINWIRE_TEAM unsigned block_of_word(unsigned i) const { return (i >> doublings) / kWords; }
  // Of the i-th value of a block.
  THINWIRE_TEAM unsigned digit_of(unsigned i) const {
    return kDigits == 1 ? 0 : (i >> doublings) / (kSmallest / kDigits);
  }

  // How many values block number `number` has; those of a rotated block are all real.
  THINWIRE_TEAM std::size_t count_of(unsigned number) const {
    return C::kRotate ? block : smaller(block, end - at - std::size_t{number} * block);
  }
  // How many there are with the padding.
  THINWIRE_TEAM unsigned padded() const { return blocks * block; }
  THINWIRE_TEAM unsigned part() const { return kSmallest / kDigits << doublings; }
  THINWIRE_TEAM unsigned words_of_block() const { return kWords << doublings; }
  THINWIRE_TEAM unsigned words() const { return blocks * words_of_block(); }

  BlockSections sections;
  std::size_t at, end; // the values
  unsigned block, doublings;
  std::size_t first_block;
  unsigned blocks;

private:
  static constexpr unsigned kSmallest = C::kSmallestBlock, kWords = kSmallest / (kQuad * kDigits);
};

// What `part(first)` finds in `span` neighbouring lanes for each of the blocks from `first` on,
// combined; lane b gets what was found for block b.
template <BlockCodec C, class Team, class Part, class Op>
THINWIRE_TEAM auto of_blocks(const Team& team, const Tile<C>& tile, unsigned span, Part part,
                             Op op) {
  const unsigned at_once = kWarp / span;
  auto all = combined(team, part(0u), span, op);
  all = team.gather(all, [=](unsigned lane) { return lane * span; });
  for (unsigned first = at_once; first < tile.blocks; first += at_once) {
    auto found = combined(team, part(first), span, op);
    found = team.gather(found, [=](unsigned lane) { return (lane - first) * span; });
    all = team.lanes([&](unsigned lane) {
      return lane - first < at_once ? team.own(found, lane) : team.own(all, lane);
    });
  }
  return all;
}

// f(sum, quad) for the quads that are `lane`'s out of a span's.
template <BlockCodec C, class Value, class Fn>
THINWIRE_TEAM Value over_block(const Tile<C>& tile, const float* y, unsigned first, unsigned span,
                               unsigned lane, Value sum, Fn f) {
  const unsigned number = first + lane / span;
  if (number < tile.blocks)
    for (unsigned i = kQuad * (lane % span); i < tile.block; i += kQuad * span)
      sum = f(sum, get(y, number * tile.block + i));
  return sum;
}

// The greatest magnitude bits of each block.
template <BlockCodec C, class Team>
THINWIRE_TEAM auto greatest_of_blocks(const Team& team, const Tile<C>& tile, const float* y) {
  const auto greater = [](std::uint32_t a, std::uint32_t b) { return a > b ? a : b; };
  // As many lanes as there are; not fewer than fill a bank of fast memory each.
  const unsigned whole = static_cast<unsigned>(Tile<C>::values(tile.block)) / tile.block,
                 span = whole > 8 ? 4 : kWarp / whole;
  return of_blocks(
      team, tile, span,
      [&](unsigned first) {
        return team.lanes([&](unsigned lane) {
          return over_block(tile, y, first, span, lane, std::uint32_t{0},
                            [&](std::uint32_t most, const Quad& q) {
                              THINWIRE_UNROLL
                              for (unsigned j = 0; j < kQuad; ++j)
                                most = greater(most, magnitude(q.v[j]));
                              return most;
                            });
        });
      },
      greater);
}

// sum16 of conventions.md over f(lane, v), v the values of a block, where `at(first)` makes f for
// the blocks from `first` on. Four lanes a block have four each of the sixteen sums.
inline constexpr unsigned kSumSpan = 4;

template <BlockCodec C, class Team, class At>
THINWIRE_TEAM auto sums_of_blocks(const Team& team, const Tile<C>& tile, const float* y, At at) {
  auto sums = of_blocks(
      team, tile, kSumSpan,
      [&](unsigned first) {
        auto f = at(first);
        return team.lanes([&](unsigned lane) {
          return over_block(tile, y, first, kSumSpan, lane, Quad{}, [&](Quad sum, const Quad& q) {
            return sum + quad_of([&](unsigned j) { return f(lane, q.v[j]); });
          });
        });
      },
      [](const Quad& a, const Quad& b) { return a + b; });
  return team.lanes([&](unsigned lane) {
    const Quad& s = team.own(sums, lane);
    return ((s.v[0] + s.v[2]) + (s.v[1] + s.v[3])).v;
  });
}

// The magnitudes of each block that are above its bound.
template <BlockCodec C, class Team, class Bounds>
THINWIRE_TEAM auto sums_above(const Team& team, const Tile<C>& tile, const float* y,
                              const Bounds& bounds) {
  const auto bounds_from = [&](unsigned first) {
    return team.gather(bounds, [=](unsigned lane) { return first + lane / kSumSpan; });
  };
  auto sums = sums_of_blocks(team, tile, y, [&](unsigned first) {
    return [&team, mine = bounds_from(first)](unsigned lane, F v) mutable {
      return magnitude_where(v, exceeds(v, team.own(mine, lane)));
    };
  });
  auto counts = of_blocks(
      team, tile, kSumSpan,
      [&](unsigned first) {
        auto mine = bounds_from(first);
        return team.lanes([&](unsigned lane) {
          const auto count = [&](std::uint32_t sum, const Quad& q) {
            THINWIRE_UNROLL
            for (unsigned j = 0; j < kQuad; ++j)
              sum += exceeds(q.v[j], team.own(mine, lane)).v & 1;
            return sum;
          };
          return over_block(tile, y, first, kSumSpan, lane, std::uint32_t{0}, count);
        });
      },
      [](std::uint32_t a, std::uint32_t b) { return a + b; });
  return team.lanes([&](unsigned lane) {
    return MagnitudeSums{team.own(sums, lane), static_cast<float>(team.own(counts, lane))};
  });
}

// Lane b gets the scale of block b.
template <BlockCodec C, class Team>
THINWIRE_TEAM auto block_scales(const Team& team, const Tile<C>& tile, const float* y, float gain) {
  if constexpr (C::kBase == ScaleBase::greatest) {
    auto most = greatest_of_blocks(team, tile, y);
    return team.lanes(
        [&](unsigned lane) { return block_scale(bits_float(team.own(most, lane)), C::kDivisor); });
  } else {
    auto sums = sums_of_blocks(team, tile, y, [](unsigned) {
      return [](unsigned, F v) { return F::splat(bits_float(magnitude(v))); };
    });
    auto all = team.lanes([&](unsigned lane) {
      return MagnitudeSums{team.own(sums, lane), static_cast<float>(tile.count_of(lane))};
    });
    if constexpr (C::kBase == ScaleBase::fitted) {
      const auto bounds =
          team.lanes([&](unsigned lane) { return outer_bound<C>(team.own(all, lane)); });
      auto outer = sums_above(team, tile, y, bounds);
      return team.lanes([&](unsigned lane) {
        const MagnitudeSums mine = team.own(all, lane);
        return block_scale(is_fitted(mine) ? fit<C>(mine, team.own(outer, lane)) : mean(mine),
                           C::kDivisor);
      });
    } else {
      return team.lanes([&](unsigned lane) {
        return block_scale(mean(team.own(all, lane)) * gain, C::kDivisor);
      });
    }
  }
}

} // namespace thinwire::lane
