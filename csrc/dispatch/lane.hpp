// The vocabulary of vectors (see simd_scalar.inl) with a single lane: what one CUDA thread holds.
// The results are those of every other vocabulary, and the host compiles it too, for tests.
#pragma once

#include "codec/math.hpp"

namespace thinwire::lane {

struct I {
  std::uint32_t v;
  static THINWIRE_HD I splat(std::uint32_t x) { return {x}; }
  static THINWIRE_HD I splat(int x) { return {static_cast<std::uint32_t>(x)}; }
};

struct F {
  using Int = I;
  float v;
  static THINWIRE_HD F splat(float x) { return {x}; }
};

// On a device by intrinsics, which no compiler option can fuse.
#if defined(__CUDA_ARCH__)
THINWIRE_HD F operator+(F a, F b) { return {__fadd_rn(a.v, b.v)}; }
THINWIRE_HD F operator-(F a, F b) { return {__fsub_rn(a.v, b.v)}; }
THINWIRE_HD F operator*(F a, F b) { return {__fmul_rn(a.v, b.v)}; }
THINWIRE_HD F multiply_add(F a, F b, F c) { return {__fmaf_rn(a.v, b.v, c.v)}; }
THINWIRE_HD F square_root(F a) { return {__fsqrt_rn(a.v)}; }
#else
THINWIRE_HD F operator+(F a, F b) { return {a.v + b.v}; }
THINWIRE_HD F operator-(F a, F b) { return {a.v - b.v}; }
THINWIRE_HD F operator*(F a, F b) { return {a.v * b.v}; }
THINWIRE_HD F multiply_add(F a, F b, F c) { return {__builtin_fmaf(a.v, b.v, c.v)}; }
THINWIRE_HD F square_root(F a) { return {__builtin_sqrtf(a.v)}; }
#endif
THINWIRE_HD I operator+(I a, I b) { return {a.v + b.v}; }
THINWIRE_HD I operator-(I a, I b) { return {a.v - b.v}; }
THINWIRE_HD I operator*(I a, I b) { return {a.v * b.v}; }
THINWIRE_HD I operator&(I a, I b) { return {a.v & b.v}; }
THINWIRE_HD I operator|(I a, I b) { return {a.v | b.v}; }
THINWIRE_HD I operator^(I a, I b) { return {a.v ^ b.v}; }
template <int k> THINWIRE_HD I shl(I a) { return {a.v << k}; }
template <int k> THINWIRE_HD I shr(I a) { return {a.v >> k}; } // logical
THINWIRE_HD std::int32_t as_signed(I a) { return static_cast<std::int32_t>(a.v); }
THINWIRE_HD I min_int(I a, I b) { return as_signed(a) < as_signed(b) ? a : b; } // signed
THINWIRE_HD I max_int(I a, I b) { return as_signed(a) > as_signed(b) ? a : b; } // signed
THINWIRE_HD I greater(I a, I b) { return I::splat(as_signed(a) > as_signed(b) ? ~0u : 0u); }

THINWIRE_HD I bits(F a) { return {float_bits(a.v)}; }
THINWIRE_HD F from_bits(I a) { return {bits_float(a.v)}; }
// Half to even, by adding and taking away 1.5 * 2^23; for |a| < 2^22, which every use keeps to.
THINWIRE_HD I rint_int(F a) { return bits(a + F::splat(0x1.8p23f)) - I::splat(0x4b400000u); }
THINWIRE_HD F to_float(I a) { return {static_cast<float>(as_signed(a))}; }
THINWIRE_HD I floor_int(F a) {
  const I nearest = rint_int(a);
  return to_float(nearest).v > a.v ? nearest - I::splat(1) : nearest;
}

THINWIRE_HD std::uint32_t magnitude(F a) { return bits(a).v & kMagnitudeMask; }
THINWIRE_HD bool is_finite(F a) { return magnitude(a) < kInfinityBits; }
THINWIRE_HD F canonical(F a) { return a.v == a.v ? a : F::splat(bits_float(kFp32Nan)); }

} // namespace thinwire::lane
