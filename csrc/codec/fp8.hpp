// fp8: floating-point numbers of eight bits against the block's greatest magnitude, in the formats
// of the OCP 8-bit Floating Point Specification. docs/wire/fp8.md
#pragma once

#include "codec/block_codec.hpp"

namespace thinwire {

enum class Fp8Format : std::uint8_t { e4m3 = 0, e5m2 = 1 };

// A code without its sign bit is its number's place among those of the format, from 0 up. A number
// is kHidden or more steps, each 1 / kHidden of the power of two below it; what is smaller than the
// smallest normal number is fewer steps of that one.
template <Fp8Format kWhich, int kMantissaBits, int kBias, int kGreatest> struct Fp8As {
  static constexpr const char* kName = "fp8";
  static constexpr std::uint8_t kWireId = 3;
  static constexpr std::size_t kDefaultBlock = 256, kSmallestBlock = 32;
  static constexpr unsigned kRadix = 256;
  static constexpr Fp8Format kFormat = kWhich;
  static constexpr ScaleBase kBase = ScaleBase::greatest;
  static constexpr bool kHasRounding = true, kHasRotation = false;
  static constexpr std::uint8_t kZeroWire = 0;
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::max;

private:
  static constexpr int kHidden = 1 << kMantissaBits, kSign = 0x80;
  static constexpr int kFp32MantissaBits = 23, kFp32Bias = 127;
  static constexpr int kShift = kFp32MantissaBits - kMantissaBits;
  static constexpr std::uint32_t power_bits(int exponent) {
    return static_cast<std::uint32_t>(exponent + kFp32Bias) << kFp32MantissaBits;
  }
  static constexpr std::uint32_t kSmallestNormal = power_bits(1 - kBias);
  // What the greatest number is made of.
  static constexpr int kGreatestSignificand = (kGreatest & (kHidden - 1)) + kHidden;
  static constexpr int kGreatestStep = 1 << ((kGreatest >> kMantissaBits) - kBias - kMantissaBits);

public:
  static constexpr float kDivisor = kGreatestSignificand * kGreatestStep;
  static constexpr double kErrorBound = 0.5 / kGreatestSignificand * (1 + 0x1p-7);

  template <class F, class Round>
  static THINWIRE_HD typename F::Int quantise(F y, F inverse, Round round) {
    using I = typename F::Int;
    const I v = bits(y * inverse), magnitude = v & I::splat(kMagnitudeMask);
    const I power = max_int(magnitude & I::splat(kInfinityBits), I::splat(kSmallestNormal));
    const F steps_of_one =
        from_bits(I::splat(2 * power_bits(0) + (kMantissaBits << kFp32MantissaBits)) - power);
    const I below = shr<kShift>(power) - I::splat(kSmallestNormal >> kShift);
    const I significand = round(from_bits(magnitude) * steps_of_one, I::splat(kGreatest) - below);
    return (below + significand) | (shr<24>(v) & I::splat(kSign));
  }
  template <class F> static THINWIRE_HD F dequantise(typename F::Int code, F scale) {
    using I = typename F::Int;
    const I magnitude = code & I::splat(kSign - 1);
    const I power = max_int(magnitude & I::splat(kSign - kHidden), I::splat(kHidden));
    const F step = from_bits(shl<kShift>(power) + I::splat(power_bits(-kBias - kMantissaBits)));
    const F number = to_float(magnitude - power + I::splat(kHidden)) * step;
    return from_bits(bits(number * scale) ^ shl<24>(code & I::splat(kSign)));
  }
  template <class I> static THINWIRE_HD I to_wire(I code) { return code; }
  template <class I> static THINWIRE_HD I from_wire(I wire) { return wire; }
};

using Fp8 = Fp8As<Fp8Format::e4m3, 3, 7, 0x7e>;
using Fp8E5m2 = Fp8As<Fp8Format::e5m2, 2, 15, 0x7b>;

} // namespace thinwire
