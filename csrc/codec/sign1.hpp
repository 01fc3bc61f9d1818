// sign1: one sign bit a value, the block's mean magnitude as its size. docs/wire/sign1.md
#pragma once

#include "codec/block_codec.hpp"

namespace thinwire {

struct Sign1 {
  static constexpr const char* kName = "sign1";
  static constexpr std::uint8_t kWireId = 7;
  static constexpr std::size_t kDefaultBlock = 128, kSmallestBlock = 32;
  static constexpr unsigned kRadix = 2;
  static constexpr ScaleBase kBase = ScaleBase::mean;
  static constexpr float kDivisor = 1;
  static constexpr bool kHasRounding = false, kHasRotation = false;
  static constexpr std::uint8_t kZeroWire = 0;
  static constexpr double kErrorBound = 1;
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::l2;

  template <class F> static THINWIRE_HD typename F::Int quantise(F y, F) {
    return shr<31>(bits(y));
  }
  template <class F> static THINWIRE_HD F dequantise(typename F::Int code, F scale) {
    return from_bits(bits(scale) ^ shl<31>(code));
  }
  template <class I> static THINWIRE_HD I to_wire(I code) { return code; }
  template <class I> static THINWIRE_HD I from_wire(I wire) { return wire; }
};

} // namespace thinwire
