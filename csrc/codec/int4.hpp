// int4: codes from -7 to 7 against the block's greatest magnitude, two a byte. docs/wire/int4.md
#pragma once

#include "codec/block_codec.hpp"

namespace thinwire {

struct Int4 {
  static constexpr const char* kName = "int4";
  static constexpr std::uint8_t kWireId = 5;
  static constexpr std::size_t kDefaultBlock = 64, kSmallestBlock = 32;
  static constexpr unsigned kRadix = 16;
  static constexpr ScaleBase kBase = ScaleBase::greatest;
  static constexpr float kDivisor = 7;
  static constexpr int kGreatestCode = 7;
  static constexpr bool kHasRounding = true, kHasRotation = true;
  static constexpr std::uint8_t kZeroWire = 0x88;
  static constexpr double kErrorBound = 0.5 / 7 * (1 + 0x1p-7);
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::max;

  template <class F, class Round>
  static THINWIRE_HD typename F::Int quantise(F y, F inverse, Round round) {
    return round(y * inverse, F::Int::splat(kGreatestCode));
  }
  template <class F> static THINWIRE_HD F dequantise(typename F::Int code, F scale) {
    return to_float(code) * scale;
  }
  template <class I> static THINWIRE_HD I to_wire(I code) { return code + I::splat(8); }
  template <class I> static THINWIRE_HD I from_wire(I wire) { return wire - I::splat(8); }
};

} // namespace thinwire
