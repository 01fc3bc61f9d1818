// Element math that every codec shares, for host and device. docs/wire/conventions.md is its
// specification.
#pragma once

#include "core/types.hpp"

namespace thinwire {

inline constexpr std::uint16_t kBf16Nan = 0x7fc0;
inline constexpr std::uint16_t kFp16Nan = 0x7e00;
inline constexpr std::uint32_t kFp32Nan = 0x7fc00000;
inline constexpr std::uint32_t kMagnitudeMask = 0x7fffffff;
inline constexpr std::uint32_t kInfinityBits = 0x7f800000;
inline constexpr float kSmallestBase = 0x1p-100f; // a block below it is coded zero
// A block from here on is coded non-finite: code * scale could overflow.
inline constexpr float kLargestBase = 0x1p127f;

THINWIRE_HD constexpr std::size_t align16(std::size_t bytes) {
  return (bytes + 15) & ~std::size_t{15};
}
THINWIRE_HD constexpr std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

THINWIRE_HD std::uint32_t float_bits(float v) { return __builtin_bit_cast(std::uint32_t, v); }
THINWIRE_HD float bits_float(std::uint32_t b) { return __builtin_bit_cast(float, b); }

THINWIRE_HD float from_bf16(std::uint16_t h) { return bits_float(std::uint32_t{h} << 16); }

THINWIRE_HD std::uint16_t to_bf16(float v) {
  const std::uint32_t b = float_bits(v);
  if ((b & kMagnitudeMask) > kInfinityBits)
    return kBf16Nan;
  return static_cast<std::uint16_t>((b + 0x7fff + ((b >> 16) & 1)) >> 16);
}

THINWIRE_HD float from_fp16(std::uint16_t h) {
#if defined(__CUDA_ARCH__) // the device has an instruction for it, exact but for what a NaN becomes
  float v;
  asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(h));
  return v == v ? v : bits_float(kFp32Nan);
#else
  const std::uint32_t sign = std::uint32_t{h & 0x8000u} << 16, exponent = (h >> 10) & 31u;
  std::uint32_t mantissa = h & 0x3ffu;
  if (exponent == 31)
    return bits_float(mantissa ? kFp32Nan : sign | kInfinityBits);
  if (exponent != 0)
    return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
  if (mantissa == 0)
    return bits_float(sign);
  std::uint32_t shifted = 113; // a subnormal: move its leading bit to the hidden place
  for (; (mantissa & 0x400u) == 0; mantissa <<= 1)
    --shifted;
  return bits_float(sign | (shifted << 23) | ((mantissa & 0x3ffu) << 13));
#endif
}

THINWIRE_HD std::uint16_t to_fp16(float v) {
#if defined(__CUDA_ARCH__)
  std::uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(v));
  return v == v ? half : kFp16Nan;
#else
  const std::uint32_t b = float_bits(v), magnitude = b & kMagnitudeMask, sign = (b >> 16) & 0x8000u;
  if (magnitude > kInfinityBits)
    return kFp16Nan;
  if (magnitude >= 0x477ff000u) // 65520 and more
    return static_cast<std::uint16_t>(sign | 0x7c00u);
  if (magnitude >= 0x38800000u) // normal
    return static_cast<std::uint16_t>(
        sign | ((magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000u) >> 13));
  if (magnitude < 0x33000000u) // below half of the smallest subnormal
    return static_cast<std::uint16_t>(sign);
  const std::uint32_t shift = 126 - (magnitude >> 23),
                      mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  const std::uint32_t kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1),
                      half = 1u << (shift - 1);
  return static_cast<std::uint16_t>(sign | (kept + (rest > half || (rest == half && (kept & 1)))));
#endif
}

// The scale of one block.
struct BlockScale {
  std::uint16_t bits; // bf16, as on the wire
  float value;
  float inverse;
  bool coded; // false: the scale is 0 or NaN and every code is the one for zero
};

THINWIRE_HD bool is_nan_scale(std::uint16_t bits) { return bits == kBf16Nan; }
THINWIRE_HD bool is_finite_scale(std::uint16_t bits) { return (bits & 0x7f80) != 0x7f80; }
// Whether the codes of a block say anything.
THINWIRE_HD bool has_codes(std::uint16_t bits) { return bits != 0 && is_finite_scale(bits); }

// `base` is the block's greatest or mean magnitude, NaN or infinite where the block is not finite.
THINWIRE_HD BlockScale block_scale(float base, float divisor) {
  if (!(base < kLargestBase))
    return {kBf16Nan, bits_float(kFp32Nan), 0.0f, false};
  if (base < kSmallestBase)
    return {0, 0.0f, 0.0f, false};
  const auto bits = static_cast<std::uint16_t>((float_bits(base / divisor) + 0xffff) >> 16);
  return {bits, from_bf16(bits), 1.0f / from_bf16(bits), true};
}

// Uniform numbers in [0, 1) from an element's index and a key (conventions.md, "Stochastic
// rounding"). `I` is the 32-bit integer vector of a target's vocabulary, `F` its float vector.
template <class I> THINWIRE_HD I mix(I x) {
  x = x ^ shr<16>(x);
  x = x * I::splat(0x7feb352du);
  x = x ^ shr<15>(x);
  x = x * I::splat(0x846ca68bu);
  return x ^ shr<16>(x);
}

template <class F> THINWIRE_HD F uniform(typename F::Int index, std::uint64_t key) {
  using I = typename F::Int;
  const I low = I::splat(static_cast<std::uint32_t>(key)),
          high = I::splat(static_cast<std::uint32_t>(key >> 32));
  return to_float(shr<8>(mix(mix(index + low) ^ high))) * F::splat(0x1p-24f);
}

} // namespace thinwire
