// int8: signed 8-bit codes against the block's greatest magnitude. docs/wire/int8.md
#pragma once

#include "codec/block_codec.hpp"

namespace thinwire {

struct Int8 {
  static constexpr const char* kName = "int8";
  static constexpr std::uint8_t kWireId = 4;
  static constexpr std::size_t kDefaultBlock = 256, kSmallestBlock = 32;
  static constexpr unsigned kRadix = 256;
  static constexpr ScaleBase kBase = ScaleBase::greatest;
  static constexpr float kDivisor = 127;
  static constexpr int kGreatestCode = 127;
  static constexpr bool kHasRounding = true, kHasRotation = false;
  static constexpr std::uint8_t kZeroWire = 0;
  static constexpr double kErrorBound = 0.5 / 127 * (1 + 0x1p-7);
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::max;

  template <class F, class Round>
  static THINWIRE_HD typename F::Int quantise(F y, F inverse, Round round) {
    return round(y * inverse, F::Int::splat(kGreatestCode));
  }
  template <class F> static THINWIRE_HD F dequantise(typename F::Int code, F scale) {
    return to_float(code) * scale;
  }
  template <class I> static THINWIRE_HD I to_wire(I code) { return code & I::splat(0xff); }
  template <class I> static THINWIRE_HD I from_wire(I wire) {
    return (wire ^ I::splat(0x80)) - I::splat(0x80);
  }
};

} // namespace thinwire
