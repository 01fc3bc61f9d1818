// The vocabulary of vectors for arm64 NEON: sixteen lanes in four registers. Included inside a
// target's namespace. simd_scalar.inl says what each function means.

struct I {
  uint32x4_t v0, v1, v2, v3;
  static THINWIRE_HD I splat(std::uint32_t x) {
    const uint32x4_t v = vdupq_n_u32(x);
    return {v, v, v, v};
  }
  static THINWIRE_HD I splat(int x) { return splat(static_cast<std::uint32_t>(x)); }
  static THINWIRE_HD I lanes() {
    const uint32x4_t first = {0, 1, 2, 3};
    return {first, vaddq_u32(first, vdupq_n_u32(4)), vaddq_u32(first, vdupq_n_u32(8)),
            vaddq_u32(first, vdupq_n_u32(12))};
  }
};

struct F {
  using Int = I;
  float32x4_t v0, v1, v2, v3;
  static THINWIRE_HD F splat(float x) {
    const float32x4_t v = vdupq_n_f32(x);
    return {v, v, v, v};
  }
};

// An intrinsic on each register of `a` (and of `b`), with the same further arguments every time.
#define THINWIRE_EACH(f, ...)                                                                      \
  {f(a.v0 __VA_OPT__(, ) __VA_ARGS__), f(a.v1 __VA_OPT__(, ) __VA_ARGS__),                         \
   f(a.v2 __VA_OPT__(, ) __VA_ARGS__), f(a.v3 __VA_OPT__(, ) __VA_ARGS__)}
#define THINWIRE_PAIRS(f) {f(a.v0, b.v0), f(a.v1, b.v1), f(a.v2, b.v2), f(a.v3, b.v3)}

THINWIRE_HD F operator+(F a, F b) { return THINWIRE_PAIRS(vaddq_f32); }
THINWIRE_HD F operator-(F a, F b) { return THINWIRE_PAIRS(vsubq_f32); }
THINWIRE_HD F operator*(F a, F b) { return THINWIRE_PAIRS(vmulq_f32); }
THINWIRE_HD F multiply_add(F a, F b, F c) {
  return {vfmaq_f32(c.v0, a.v0, b.v0), vfmaq_f32(c.v1, a.v1, b.v1), vfmaq_f32(c.v2, a.v2, b.v2),
          vfmaq_f32(c.v3, a.v3, b.v3)};
}
THINWIRE_HD I operator+(I a, I b) { return THINWIRE_PAIRS(vaddq_u32); }
THINWIRE_HD I operator-(I a, I b) { return THINWIRE_PAIRS(vsubq_u32); }
THINWIRE_HD I operator*(I a, I b) { return THINWIRE_PAIRS(vmulq_u32); }
THINWIRE_HD I operator&(I a, I b) { return THINWIRE_PAIRS(vandq_u32); }
THINWIRE_HD I operator|(I a, I b) { return THINWIRE_PAIRS(vorrq_u32); }
THINWIRE_HD I operator^(I a, I b) { return THINWIRE_PAIRS(veorq_u32); }
template <int k> THINWIRE_HD I shl(I a) { return THINWIRE_EACH(vshlq_n_u32, k); }
template <int k> THINWIRE_HD I shr(I a) { return THINWIRE_EACH(vshrq_n_u32, k); }

THINWIRE_HD uint32x4_t min_signed(uint32x4_t a, uint32x4_t b) {
  return vreinterpretq_u32_s32(vminq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b)));
}
THINWIRE_HD uint32x4_t max_signed(uint32x4_t a, uint32x4_t b) {
  return vreinterpretq_u32_s32(vmaxq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b)));
}
THINWIRE_HD I min_int(I a, I b) { return THINWIRE_PAIRS(min_signed); }
THINWIRE_HD I max_int(I a, I b) { return THINWIRE_PAIRS(max_signed); }
THINWIRE_HD uint32x4_t greater_signed(uint32x4_t a, uint32x4_t b) {
  return vcgtq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b));
}
THINWIRE_HD I greater(I a, I b) { return THINWIRE_PAIRS(greater_signed); }

THINWIRE_HD uint32x4_t rint_signed(float32x4_t a) {
  return vreinterpretq_u32_s32(vcvtnq_s32_f32(a));
}
THINWIRE_HD uint32x4_t floor_signed(float32x4_t a) {
  return vreinterpretq_u32_s32(vcvtmq_s32_f32(a));
}
THINWIRE_HD float32x4_t float_of_signed(uint32x4_t a) {
  return vcvtq_f32_s32(vreinterpretq_s32_u32(a));
}
THINWIRE_HD I bits(F a) { return THINWIRE_EACH(vreinterpretq_u32_f32); }
THINWIRE_HD F from_bits(I a) { return THINWIRE_EACH(vreinterpretq_f32_u32); }
THINWIRE_HD I rint_int(F a) { return THINWIRE_EACH(rint_signed); }
THINWIRE_HD I floor_int(F a) { return THINWIRE_EACH(floor_signed); }
THINWIRE_HD F to_float(I a) { return THINWIRE_EACH(float_of_signed); }

template <int apart> THINWIRE_HD F swap_lanes(F a) {
  if constexpr (apart == 8)
    return {a.v2, a.v3, a.v0, a.v1};
  else if constexpr (apart == 4)
    return {a.v1, a.v0, a.v3, a.v2};
  else if constexpr (apart == 2)
    return {vextq_f32(a.v0, a.v0, 2), vextq_f32(a.v1, a.v1, 2), vextq_f32(a.v2, a.v2, 2),
            vextq_f32(a.v3, a.v3, 2)};
  else
    return THINWIRE_EACH(vrev64q_f32);
}

THINWIRE_HD std::uint32_t greatest(I a) {
  return vmaxvq_u32(vmaxq_u32(vmaxq_u32(a.v0, a.v1), vmaxq_u32(a.v2, a.v3)));
}
THINWIRE_HD float tree_sum(F a) {
  const float32x4_t four = vaddq_f32(vaddq_f32(a.v0, a.v2), vaddq_f32(a.v1, a.v3));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(vpadd_f32(two, two), 0);
}

THINWIRE_HD void tree_sums(const F* a, float* sums) {
  for (int i = 0; i < 8; ++i)
    sums[i] = tree_sum(a[i]);
}

// The low bytes of sixteen lanes, in order.
THINWIRE_HD uint8x16_t narrow(I a) {
  return vcombine_u8(vmovn_u16(vcombine_u16(vmovn_u32(a.v0), vmovn_u32(a.v1))),
                     vmovn_u16(vcombine_u16(vmovn_u32(a.v2), vmovn_u32(a.v3))));
}
THINWIRE_HD I widen(uint8x16_t bytes) {
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
  return {vmovl_u16(vget_low_u16(low)), vmovl_u16(vget_high_u16(low)),
          vmovl_u16(vget_low_u16(high)), vmovl_u16(vget_high_u16(high))};
}
// In each half, byte j has the bit of lane j of a mask.
THINWIRE_HD uint8x16_t mask_bits() {
  return uint8x16_t{1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
}
// The mask of sixteen lanes that are all ones or all zeros.
THINWIRE_HD std::uint16_t mask_of_bytes(uint8x16_t lanes) {
  const uint8x16_t chosen = vandq_u8(lanes, mask_bits());
  const unsigned low = vaddv_u8(vget_low_u8(chosen)), high = vaddv_u8(vget_high_u8(chosen));
  return static_cast<std::uint16_t>(low | high << 8);
}
THINWIRE_HD std::uint16_t mask_of(I a) { return mask_of_bytes(narrow(a)); }
THINWIRE_HD std::uint16_t at_least(I a, std::uint32_t bound) {
  return mask_of(THINWIRE_EACH(vcgeq_u32, vdupq_n_u32(bound)));
}
THINWIRE_HD std::uint16_t low_bits(I a) {
  return mask_of(THINWIRE_EACH(vtstq_u32, vdupq_n_u32(1)));
}
THINWIRE_HD I from_low_bits(std::uint16_t m) {
  const uint8x16_t bytes = vcombine_u8(vdup_n_u8(static_cast<std::uint8_t>(m)),
                                       vdup_n_u8(static_cast<std::uint8_t>(m >> 8)));
  return widen(vandq_u8(vtstq_u8(bytes, mask_bits()), vdupq_n_u8(1)));
}

THINWIRE_HD float32x4_t canonical(float32x4_t a) {
  return vbslq_f32(vceqq_f32(a, a), a, vreinterpretq_f32_u32(vdupq_n_u32(kFp32Nan)));
}
THINWIRE_HD F canonical(F a) { return THINWIRE_EACH(canonical); }
THINWIRE_HD float32x4_t zero_where_nonfinite(float32x4_t a, float32x4_t judged) {
  const uint32x4_t magnitude =
      vandq_u32(vreinterpretq_u32_f32(judged), vdupq_n_u32(kMagnitudeMask));
  const uint32x4_t finite = vcltq_u32(magnitude, vdupq_n_u32(kInfinityBits));
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), finite));
}
THINWIRE_HD F zero_where_nonfinite(F a, F b) { return THINWIRE_PAIRS(zero_where_nonfinite); }

THINWIRE_HD float32x4_t float_of_half(uint16x4_t a) {
  return vcvt_f32_f16(vreinterpret_f16_u16(a));
}
THINWIRE_HD uint16x4_t half_of_float(float32x4_t a) {
  return vreinterpret_u16_f16(vcvt_f16_f32(a));
}

// Memory is read and written as bytes, which need no alignment.
template <DType D> THINWIRE_HD F load(const void* p) {
  const auto* bytes = static_cast<const std::uint8_t*>(p);
  if constexpr (D == DType::fp32) {
    return {vreinterpretq_f32_u8(vld1q_u8(bytes)), vreinterpretq_f32_u8(vld1q_u8(bytes + 16)),
            vreinterpretq_f32_u8(vld1q_u8(bytes + 32)), vreinterpretq_f32_u8(vld1q_u8(bytes + 48))};
  } else {
    const uint16x8_t low = vreinterpretq_u16_u8(vld1q_u8(bytes));
    const uint16x8_t high = vreinterpretq_u16_u8(vld1q_u8(bytes + 16));
    if constexpr (D == DType::fp16)
      return {float_of_half(vget_low_u16(low)), float_of_half(vget_high_u16(low)),
              float_of_half(vget_low_u16(high)), float_of_half(vget_high_u16(high))};
    else
      return from_bits({vshll_n_u16(vget_low_u16(low), 16), vshll_n_u16(vget_high_u16(low), 16),
                        vshll_n_u16(vget_low_u16(high), 16), vshll_n_u16(vget_high_u16(high), 16)});
  }
}

template <DType D> THINWIRE_HD void store(void* p, F a) {
  auto* bytes = static_cast<std::uint8_t*>(p);
  if constexpr (D == DType::fp32) {
    vst1q_u8(bytes, vreinterpretq_u8_f32(a.v0));
    vst1q_u8(bytes + 16, vreinterpretq_u8_f32(a.v1));
    vst1q_u8(bytes + 32, vreinterpretq_u8_f32(a.v2));
    vst1q_u8(bytes + 48, vreinterpretq_u8_f32(a.v3));
    return;
  }
  const F c = canonical(a); // so that the 16-bit NaN below has neither sign nor payload
  uint16x8_t low, high;
  if constexpr (D == DType::fp16) {
    low = vcombine_u16(half_of_float(c.v0), half_of_float(c.v1));
    high = vcombine_u16(half_of_float(c.v2), half_of_float(c.v3));
  } else {
    const I rounded = bits(c) + I::splat(0x7fff) + (shr<16>(bits(c)) & I::splat(1));
    low = vcombine_u16(vshrn_n_u32(rounded.v0, 16), vshrn_n_u32(rounded.v1, 16));
    high = vcombine_u16(vshrn_n_u32(rounded.v2, 16), vshrn_n_u32(rounded.v3, 16));
  }
  vst1q_u8(bytes, vreinterpretq_u8_u16(low));
  vst1q_u8(bytes + 16, vreinterpretq_u8_u16(high));
}

THINWIRE_HD I load_bytes(const std::uint8_t* p) { return widen(vld1q_u8(p)); }
THINWIRE_HD void store_bytes(std::uint8_t* p, I a) { vst1q_u8(p, narrow(a)); }

struct W {
  int16x8_t v0, v1, v2, v3;
  static THINWIRE_HD W splat(std::uint16_t x) {
    const int16x8_t v = vdupq_n_s16(static_cast<std::int16_t>(x));
    return {v, v, v, v};
  }
};
THINWIRE_HD W operator+(W a, W b) { return THINWIRE_PAIRS(vaddq_s16); }
THINWIRE_HD W operator*(W a, W b) { return THINWIRE_PAIRS(vmulq_s16); }
THINWIRE_HD W max_word(W a, W b) { return THINWIRE_PAIRS(vmaxq_s16); }
THINWIRE_HD int16x8_t load_eight(const std::uint8_t* p) {
  return vreinterpretq_s16_u8(vld1q_u8(p));
}
THINWIRE_HD W load_words(const std::uint8_t* p) {
  return {load_eight(p), load_eight(p + 16), load_eight(p + 32), load_eight(p + 48)};
}
template <int kBytes> THINWIRE_HD int16x8_t words_before(int16x8_t before, int16x8_t a) {
  return vextq_s16(before, a, 8 - kBytes / 2);
}
template <int kBytes> THINWIRE_HD W words_before(W before, W a) {
  if constexpr (kBytes == 32)
    return {before.v2, before.v3, a.v0, a.v1};
  else
    return {words_before<kBytes>(before.v3, a.v0), words_before<kBytes>(a.v0, a.v1),
            words_before<kBytes>(a.v1, a.v2), words_before<kBytes>(a.v2, a.v3)};
}
THINWIRE_HD std::uint32_t mask_of(uint16x8_t low, uint16x8_t high) {
  return mask_of_bytes(vcombine_u8(vmovn_u16(low), vmovn_u16(high)));
}
THINWIRE_HD std::uint32_t words_above(W a, std::int16_t bound) {
  const int16x8_t b = vdupq_n_s16(bound);
  return mask_of(vcgtq_s16(a.v0, b), vcgtq_s16(a.v1, b)) |
         mask_of(vcgtq_s16(a.v2, b), vcgtq_s16(a.v3, b)) << 16;
}
THINWIRE_HD bool any_above(W a, std::int16_t bound) {
  return vmaxvq_s16(vmaxq_s16(vmaxq_s16(a.v0, a.v1), vmaxq_s16(a.v2, a.v3))) > bound;
}

#undef THINWIRE_EACH
#undef THINWIRE_PAIRS
