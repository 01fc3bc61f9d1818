// The vocabulary of vectors for AVX2: sixteen lanes in two registers. Included inside a target's
// namespace and region. simd_scalar.inl says what each function means.

struct I {
  __m256i lo, hi;
  static THINWIRE_HD I splat(std::uint32_t x) { return splat(static_cast<int>(x)); }
  static THINWIRE_HD I splat(int x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  static THINWIRE_HD I lanes() {
    return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
  }
};

struct F {
  using Int = I;
  __m256 lo, hi;
  static THINWIRE_HD F splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
};

// An intrinsic on each register of `a` (and of `b`), with the same further arguments every time.
#define THINWIRE_EACH(f, ...)                                                                      \
  {f(a.lo __VA_OPT__(, ) __VA_ARGS__), f(a.hi __VA_OPT__(, ) __VA_ARGS__)}
#define THINWIRE_PAIRS(f) {f(a.lo, b.lo), f(a.hi, b.hi)}

THINWIRE_HD F operator+(F a, F b) { return THINWIRE_PAIRS(_mm256_add_ps); }
THINWIRE_HD F operator-(F a, F b) { return THINWIRE_PAIRS(_mm256_sub_ps); }
THINWIRE_HD F operator*(F a, F b) { return THINWIRE_PAIRS(_mm256_mul_ps); }
THINWIRE_HD F multiply_add(F a, F b, F c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
THINWIRE_HD I operator+(I a, I b) { return THINWIRE_PAIRS(_mm256_add_epi32); }
THINWIRE_HD I operator-(I a, I b) { return THINWIRE_PAIRS(_mm256_sub_epi32); }
THINWIRE_HD I operator*(I a, I b) { return THINWIRE_PAIRS(_mm256_mullo_epi32); }
THINWIRE_HD I operator&(I a, I b) { return THINWIRE_PAIRS(_mm256_and_si256); }
THINWIRE_HD I operator|(I a, I b) { return THINWIRE_PAIRS(_mm256_or_si256); }
THINWIRE_HD I operator^(I a, I b) { return THINWIRE_PAIRS(_mm256_xor_si256); }
template <int k> THINWIRE_HD I shl(I a) { return THINWIRE_EACH(_mm256_slli_epi32, k); }
template <int k> THINWIRE_HD I shr(I a) { return THINWIRE_EACH(_mm256_srli_epi32, k); }
THINWIRE_HD I min_int(I a, I b) { return THINWIRE_PAIRS(_mm256_min_epi32); }
THINWIRE_HD I max_int(I a, I b) { return THINWIRE_PAIRS(_mm256_max_epi32); }
THINWIRE_HD I greater(I a, I b) { return THINWIRE_PAIRS(_mm256_cmpgt_epi32); }

THINWIRE_HD I bits(F a) { return THINWIRE_EACH(_mm256_castps_si256); }
THINWIRE_HD F from_bits(I a) { return THINWIRE_EACH(_mm256_castsi256_ps); }
THINWIRE_HD I rint_int(F a) { return THINWIRE_EACH(_mm256_cvtps_epi32); }
THINWIRE_HD F to_float(I a) { return THINWIRE_EACH(_mm256_cvtepi32_ps); }
THINWIRE_HD I floor_int(F a) { return rint_int(THINWIRE_EACH(_mm256_floor_ps)); }

template <int apart> THINWIRE_HD F swap_lanes(F a) {
  if constexpr (apart == 8)
    return {a.hi, a.lo};
  else if constexpr (apart == 4)
    return {_mm256_permute2f128_ps(a.lo, a.lo, 0x01), _mm256_permute2f128_ps(a.hi, a.hi, 0x01)};
  else
    return {_mm256_permute_ps(a.lo, apart == 2 ? 0x4e : 0xb1),
            _mm256_permute_ps(a.hi, apart == 2 ? 0x4e : 0xb1)};
}

THINWIRE_HD std::uint32_t greatest(I a) {
  const __m256i eight = _mm256_max_epi32(a.lo, a.hi);
  const __m128i four =
      _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return static_cast<std::uint32_t>(
      _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1))));
}
THINWIRE_HD float tree_sum(F a) {
  const __m256 eight = _mm256_add_ps(a.lo, a.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

THINWIRE_HD void tree_sums(const F* a, float* sums) {
  __m256 four[4], two[2];
  for (int i = 0; i < 4; ++i) {
    const __m256 x = _mm256_add_ps(a[i].lo, a[i].hi), y = _mm256_add_ps(a[i + 4].lo, a[i + 4].hi);
    four[i] = _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
  }
  for (int i = 0; i < 2; ++i) {
    const __m256 x = four[2 * i], y = four[2 * i + 1];
    two[i] = _mm256_add_ps(_mm256_shuffle_ps(x, y, 0x44), _mm256_shuffle_ps(x, y, 0xee));
  }
  _mm256_storeu_ps(sums, _mm256_add_ps(_mm256_shuffle_ps(two[0], two[1], 0x88),
                                       _mm256_shuffle_ps(two[0], two[1], 0xdd)));
}

THINWIRE_HD std::uint16_t sign_mask(__m256i lo, __m256i hi) {
  const int low = _mm256_movemask_ps(_mm256_castsi256_ps(lo));
  const int high = _mm256_movemask_ps(_mm256_castsi256_ps(hi));
  return static_cast<std::uint16_t>(low | high << 8);
}
THINWIRE_HD std::uint16_t at_least(I a, std::uint32_t bound) {
  const __m256i below = _mm256_set1_epi32(static_cast<int>(bound) - 1);
  return sign_mask(_mm256_cmpgt_epi32(a.lo, below), _mm256_cmpgt_epi32(a.hi, below));
}
THINWIRE_HD std::uint16_t low_bits(I a) { return sign_mask(shl<31>(a).lo, shl<31>(a).hi); }
THINWIRE_HD I from_low_bits(std::uint16_t m) {
  const __m256i all = _mm256_set1_epi32(m), one = _mm256_set1_epi32(1);
  const I lane = I::lanes();
  return {_mm256_and_si256(_mm256_srlv_epi32(all, lane.lo), one),
          _mm256_and_si256(_mm256_srlv_epi32(all, lane.hi), one)};
}

THINWIRE_HD F canonical(F a) {
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(kFp32Nan));
  return {_mm256_blendv_ps(a.lo, nan, _mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q)),
          _mm256_blendv_ps(a.hi, nan, _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q))};
}
THINWIRE_HD F zero_where_nonfinite(F a, F judged) {
  const I magnitude = bits(judged) & I::splat(kMagnitudeMask);
  const __m256i infinity = _mm256_set1_epi32(kInfinityBits);
  return {_mm256_and_ps(a.lo, _mm256_castsi256_ps(_mm256_cmpgt_epi32(infinity, magnitude.lo))),
          _mm256_and_ps(a.hi, _mm256_castsi256_ps(_mm256_cmpgt_epi32(infinity, magnitude.hi)))};
}

// Sixteen 32-bit lanes of at most 16 significant bits each, packed to 16-bit lanes in order.
THINWIRE_HD __m256i pack16(I a) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(a.lo, a.hi), 0xd8);
}

template <DType D> THINWIRE_HD F load(const void* p) {
  if constexpr (D == DType::fp32) {
    const auto* f = static_cast<const float*>(p);
    return {_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
  } else {
    const auto* h = static_cast<const __m128i*>(p);
    const __m128i lo = _mm_loadu_si128(h), hi = _mm_loadu_si128(h + 1);
    if constexpr (D == DType::fp16)
      return {_mm256_cvtph_ps(lo), _mm256_cvtph_ps(hi)};
    else
      return from_bits(shl<16>(I{_mm256_cvtepu16_epi32(lo), _mm256_cvtepu16_epi32(hi)}));
  }
}

template <DType D> THINWIRE_HD void store(void* p, F a) {
  if constexpr (D == DType::fp32) {
    auto* f = static_cast<float*>(p);
    _mm256_storeu_ps(f, a.lo);
    _mm256_storeu_ps(f + 8, a.hi);
    return;
  }
  const F c = canonical(a); // so that the 16-bit NaN below has neither sign nor payload
  if constexpr (D == DType::fp16) {
    auto* h = static_cast<__m128i*>(p);
    _mm_storeu_si128(h, _mm256_cvtps_ph(c.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(c.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  } else {
    const I b = bits(c);
    _mm256_storeu_si256(static_cast<__m256i*>(p),
                        pack16(shr<16>(b + I::splat(0x7fff) + (shr<16>(b) & I::splat(1)))));
  }
}

THINWIRE_HD I load_bytes(const std::uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
THINWIRE_HD void store_bytes(std::uint8_t* p, I a) {
  const __m256i words = pack16(a);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

struct W {
  __m256i lo, hi;
  static THINWIRE_HD W splat(std::uint16_t x) {
    const __m256i v = _mm256_set1_epi16(static_cast<std::int16_t>(x));
    return {v, v};
  }
};
THINWIRE_HD W operator+(W a, W b) { return THINWIRE_PAIRS(_mm256_add_epi16); }
THINWIRE_HD W operator*(W a, W b) { return THINWIRE_PAIRS(_mm256_mullo_epi16); }
THINWIRE_HD W max_word(W a, W b) { return THINWIRE_PAIRS(_mm256_max_epi16); }
THINWIRE_HD W load_words(const std::uint8_t* p) {
  const auto* half = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(half), _mm256_loadu_si256(half + 1)};
}
template <int kBytes> THINWIRE_HD __m256i words_before(__m256i before, __m256i a) {
  const __m256i between = _mm256_permute2x128_si256(before, a, 0x21);
  return _mm256_alignr_epi8(a, between, 16 - kBytes);
}
template <int kBytes> THINWIRE_HD W words_before(W before, W a) {
  if constexpr (kBytes == 32)
    return {before.hi, a.lo};
  else
    return {words_before<kBytes>(before.hi, a.lo), words_before<kBytes>(a.lo, a.hi)};
}
// The mask of lanes that are all ones or all zeros.
THINWIRE_HD std::uint32_t words_mask(W a) {
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(a.lo, a.hi), 0xd8);
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
}
THINWIRE_HD std::uint32_t words_above(W a, std::int16_t bound) {
  const W b = W::splat(static_cast<std::uint16_t>(bound));
  return words_mask(THINWIRE_PAIRS(_mm256_cmpgt_epi16));
}
THINWIRE_HD bool any_above(W a, std::int16_t bound) {
  const __m256i above = _mm256_cmpgt_epi16(_mm256_max_epi16(a.lo, a.hi), _mm256_set1_epi16(bound));
  return _mm256_movemask_epi8(above) != 0;
}

#undef THINWIRE_EACH
#undef THINWIRE_PAIRS
