// The vocabulary of vectors for AVX-512: sixteen lanes in one register. Included inside a target's
// namespace and region. simd_scalar.inl says what each function means.

struct I {
  __m512i v;
  static THINWIRE_HD I splat(std::uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
  static THINWIRE_HD I splat(int x) { return {_mm512_set1_epi32(x)}; }
  static THINWIRE_HD I lanes() {
    return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
  }
};

struct F {
  using Int = I;
  __m512 v;
  static THINWIRE_HD F splat(float x) { return {_mm512_set1_ps(x)}; }
};

THINWIRE_HD F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
THINWIRE_HD F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
THINWIRE_HD F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
THINWIRE_HD F multiply_add(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
THINWIRE_HD I operator+(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
THINWIRE_HD I operator-(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
THINWIRE_HD I operator*(I a, I b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
THINWIRE_HD I operator&(I a, I b) { return {_mm512_and_si512(a.v, b.v)}; }
THINWIRE_HD I operator|(I a, I b) { return {_mm512_or_si512(a.v, b.v)}; }
THINWIRE_HD I operator^(I a, I b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int k> THINWIRE_HD I shl(I a) { return {_mm512_slli_epi32(a.v, k)}; }
template <int k> THINWIRE_HD I shr(I a) { return {_mm512_srli_epi32(a.v, k)}; }
THINWIRE_HD I min_int(I a, I b) { return {_mm512_min_epi32(a.v, b.v)}; }
THINWIRE_HD I max_int(I a, I b) { return {_mm512_max_epi32(a.v, b.v)}; }
THINWIRE_HD I greater(I a, I b) { return {_mm512_movm_epi32(_mm512_cmpgt_epi32_mask(a.v, b.v))}; }

THINWIRE_HD I bits(F a) { return {_mm512_castps_si512(a.v)}; }
THINWIRE_HD F from_bits(I a) { return {_mm512_castsi512_ps(a.v)}; }
THINWIRE_HD I rint_int(F a) { return {_mm512_cvtps_epi32(a.v)}; }
THINWIRE_HD I floor_int(F a) {
  return {_mm512_cvt_roundps_epi32(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
}
THINWIRE_HD F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }

template <int apart> THINWIRE_HD F swap_lanes(F a) {
  if constexpr (apart == 8)
    return {_mm512_shuffle_f32x4(a.v, a.v, 0x4e)};
  else if constexpr (apart == 4)
    return {_mm512_shuffle_f32x4(a.v, a.v, 0xb1)};
  else
    return {_mm512_permute_ps(a.v, apart == 2 ? 0x4e : 0xb1)};
}

THINWIRE_HD std::uint32_t greatest(I a) {
  return static_cast<std::uint32_t>(_mm512_reduce_max_epi32(a.v));
}
THINWIRE_HD float tree_sum(F a) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

THINWIRE_HD void tree_sums(const F* a, float* sums) {
  __m512 eight[4], four[2]; // lanes that are left of each of two, of four
  for (int i = 0; i < 4; ++i) {
    const __m512 x = a[2 * i].v, y = a[2 * i + 1].v;
    eight[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
  }
  for (int i = 0; i < 2; ++i) {
    const __m512 x = eight[2 * i], y = eight[2 * i + 1];
    four[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
  }
  const __m512 two = _mm512_add_ps(_mm512_shuffle_ps(four[0], four[1], 0x44),
                                   _mm512_shuffle_ps(four[0], four[1], 0xee));
  const __m512 all = _mm512_add_ps(two, _mm512_shuffle_ps(two, two, 0xb1));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm256_storeu_ps(sums, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, all)));
}

THINWIRE_HD std::uint16_t at_least(I a, std::uint32_t bound) {
  return _mm512_cmpge_epi32_mask(a.v, I::splat(bound).v);
}
THINWIRE_HD std::uint16_t low_bits(I a) { return _mm512_test_epi32_mask(a.v, I::splat(1).v); }
THINWIRE_HD I from_low_bits(std::uint16_t m) { return {_mm512_maskz_set1_epi32(m, 1)}; }

THINWIRE_HD F canonical(F a) {
  return {_mm512_mask_mov_ps(a.v, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q),
                             from_bits(I::splat(kFp32Nan)).v)};
}
THINWIRE_HD F zero_where_nonfinite(F a, F judged) {
  return {_mm512_maskz_mov_ps(_mm512_cmplt_epi32_mask((bits(judged) & I::splat(kMagnitudeMask)).v,
                                                      I::splat(kInfinityBits).v),
                              a.v)};
}

template <DType D> THINWIRE_HD F load(const void* p) {
  if constexpr (D == DType::fp32) {
    return {_mm512_loadu_ps(p)};
  } else {
    const __m256i half = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    if constexpr (D == DType::fp16)
      return {_mm512_cvtph_ps(half)};
    else
      return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
  }
}

template <DType D> THINWIRE_HD void store(void* p, F a) {
  if constexpr (D == DType::fp32) {
    _mm512_storeu_ps(p, a.v);
    return;
  }
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  __m256i half;
  if constexpr (D == DType::fp16) {
    half = _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    half = _mm256_mask_mov_epi16(half, nan, _mm256_set1_epi16(kFp16Nan));
  } else {
    const I b = bits(a);
    half = _mm512_cvtepi32_epi16(shr<16>(b + I::splat(0x7fff) + (shr<16>(b) & I::splat(1))).v);
    half = _mm256_mask_mov_epi16(half, nan, _mm256_set1_epi16(kBf16Nan));
  }
  _mm256_storeu_si256(static_cast<__m256i*>(p), half);
}

THINWIRE_HD I load_bytes(const std::uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
THINWIRE_HD void store_bytes(std::uint8_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}

struct W {
  __m512i v;
  static THINWIRE_HD W splat(std::uint16_t x) {
    return {_mm512_set1_epi16(static_cast<std::int16_t>(x))};
  }
};
THINWIRE_HD W operator+(W a, W b) { return {_mm512_add_epi16(a.v, b.v)}; }
THINWIRE_HD W operator*(W a, W b) { return {_mm512_mullo_epi16(a.v, b.v)}; }
THINWIRE_HD W max_word(W a, W b) { return {_mm512_max_epi16(a.v, b.v)}; }
THINWIRE_HD W load_words(const std::uint8_t* p) { return {_mm512_loadu_si512(p)}; }
template <int kBytes> THINWIRE_HD W words_before(W before, W a) {
  return {_mm512_alignr_epi32(a.v, before.v, 16 - kBytes / 4)};
}
THINWIRE_HD std::uint32_t words_above(W a, std::int16_t bound) {
  return _mm512_cmpgt_epi16_mask(a.v, _mm512_set1_epi16(bound));
}
THINWIRE_HD bool any_above(W a, std::int16_t bound) { return words_above(a, bound) != 0; }
