// ternary: -1, 0 or 1 times the mean of a block's great magnitudes, five values a byte.
// docs/wire/ternary.md
#pragma once

#include "codec/fitted_scale.hpp"

namespace thinwire {

struct Ternary {
  static constexpr const char* kName = "ternary";
  static constexpr std::uint8_t kWireId = 9;
  static constexpr std::size_t kDefaultBlock = 160, kSmallestBlock = 80;
  static constexpr unsigned kRadix = 3;
  static constexpr ScaleBase kBase = ScaleBase::fitted;
  static constexpr float kDivisor = 1;
  static constexpr float kInnerLevel = 0, kOuterFrom = 0.8125f;
  static constexpr bool kHasRounding = false, kHasRotation = false;
  static constexpr std::uint8_t kZeroWire = 1 + 3 + 9 + 27 + 81;
  static constexpr double kErrorBound = 1;
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::l2;

  template <class F> static THINWIRE_HD typename F::Int quantise(F y, F inverse) {
    using I = typename F::Int;
    const F v = y * inverse;
    const I sign = I::splat(1) - shl<1>(shr<31>(bits(v)));
    return exceeds(v, 0.5f) & sign;
  }
  template <class F> static THINWIRE_HD F dequantise(typename F::Int code, F scale) {
    return to_float(code) * scale;
  }
  template <class I> static THINWIRE_HD I to_wire(I code) { return code + I::splat(1); }
  template <class I> static THINWIRE_HD I from_wire(I wire) { return wire - I::splat(1); }
};

} // namespace thinwire
