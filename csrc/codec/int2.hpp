// int2: a sign and one of two magnitudes a value, four values a byte. docs/wire/int2.md
#pragma once

#include "codec/fitted_scale.hpp"

namespace thinwire {

// Near the quantiser of four levels that is best for a normal distribution (Max 1960): its levels
// have the ratio 0.29987. A slightly smaller one costs nothing there and suits heavier tails.
struct Int2 {
  static constexpr const char* kName = "int2";
  static constexpr std::uint8_t kWireId = 6;
  static constexpr std::size_t kDefaultBlock = 128, kSmallestBlock = 64;
  static constexpr unsigned kRadix = 4;
  static constexpr ScaleBase kBase = ScaleBase::fitted;
  static constexpr float kDivisor = 1;
  static constexpr float kInnerLevel = 0.28125f, kOuterFrom = 1.25f;
  static constexpr bool kHasRounding = false, kHasRotation = true;
  static constexpr std::uint8_t kZeroWire = 0;
  static constexpr double kErrorBound = 1;
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::l2;

  // Bit 0: the outer level. Bit 1: negative.
  template <class F> static THINWIRE_HD typename F::Int quantise(F y, F inverse) {
    using I = typename F::Int;
    const F v = y * inverse;
    const I outer = exceeds(v, (1 + kInnerLevel) / 2) & I::splat(1);
    return outer | shl<1>(shr<31>(bits(v)));
  }
  template <class F> static THINWIRE_HD F dequantise(typename F::Int code, F scale) {
    using I = typename F::Int;
    const I outer = I::splat(0) - (code & I::splat(1));
    const F magnitude = pick(outer, scale, scale * F::splat(kInnerLevel));
    return from_bits(bits(magnitude) ^ shl<31>(shr<1>(code)));
  }
  template <class I> static THINWIRE_HD I to_wire(I code) { return code; }
  template <class I> static THINWIRE_HD I from_wire(I wire) { return wire; }
};

} // namespace thinwire
