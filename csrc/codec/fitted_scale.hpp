// The scale of codecs whose magnitudes are two levels, 1 and kInnerLevel times the scale: the least
// squares fit of both to a block. docs/wire/conventions.md, "Fit"
//
// Beside the constants of a block codec these have
//
//   kInnerLevel       from 0 to 1
//   kOuterFrom        values above this times the mean magnitude are fitted by the outer level
#pragma once

#include "codec/block_codec.hpp"

namespace thinwire {

// All bits in the lanes where |v| > bound, else none. The bound is not negative.
template <class F> THINWIRE_HD typename F::Int exceeds(F v, float bound) {
  using I = typename F::Int;
  return greater(bits(v) & I::splat(kMagnitudeMask), I::splat(float_bits(bound)));
}

// `one` in the lanes where all bits of `which` are set, `zero` where none is.
template <class F> THINWIRE_HD F pick(typename F::Int which, F one, F zero) {
  return from_bits(bits(zero) ^ ((bits(zero) ^ bits(one)) & which));
}

// |v| in the lanes where all bits of `which` are set, 0 where none is.
template <class F> THINWIRE_HD F magnitude_where(F v, typename F::Int which) {
  return from_bits(bits(v) & F::Int::splat(kMagnitudeMask) & which);
}

// sum16 of some magnitudes of a block, and how many they are.
struct MagnitudeSums {
  float sum, count;
};

THINWIRE_HD float mean(MagnitudeSums all) { return all.sum / all.count; }

// Blocks with such magnitudes are fitted; the mean of the others says what they are.
THINWIRE_HD bool is_fitted(MagnitudeSums all) {
  return mean(all) >= kSmallestBase && mean(all) < kLargestBase;
}

template <class C> THINWIRE_HD float outer_bound(MagnitudeSums all) {
  return mean(all) * C::kOuterFrom;
}

// The fit, where `outer` are the magnitudes above the bound. The divisor is exact.
template <class C> THINWIRE_HD float fit(MagnitudeSums all, MagnitudeSums outer) {
  const float inner_part = all.sum * C::kInnerLevel, outer_part = outer.sum * (1 - C::kInnerLevel);
  const float squares = C::kInnerLevel * C::kInnerLevel;
  return (inner_part + outer_part) / (outer.count + (all.count - outer.count) * squares);
}

} // namespace thinwire
