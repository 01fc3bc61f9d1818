// The vocabulary of vectors, in plain C++: sixteen lanes, `F` of fp32 and `I` of 32-bit integers.
// The other simd_*.inl define the same names with the same results for their instruction set.
// Included inside a target's namespace.

struct I {
  std::uint32_t v[16];
  static THINWIRE_HD I splat(std::uint32_t x) {
    I r;
    for (auto& lane : r.v)
      lane = x;
    return r;
  }
  static THINWIRE_HD I splat(int x) { return splat(static_cast<std::uint32_t>(x)); }
  static THINWIRE_HD I lanes() { return {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}; }
};

struct F {
  using Int = I;
  float v[16];
  static THINWIRE_HD F splat(float x) {
    F r;
    for (auto& lane : r.v)
      lane = x;
    return r;
  }
};

// One result vector, lane by lane.
#define THINWIRE_LANES(R, expression)                                                              \
  R r;                                                                                             \
  for (int j = 0; j < 16; ++j)                                                                     \
    r.v[j] = expression;                                                                           \
  return r

THINWIRE_HD F operator+(F a, F b) { THINWIRE_LANES(F, a.v[j] + b.v[j]); }
THINWIRE_HD F operator-(F a, F b) { THINWIRE_LANES(F, a.v[j] - b.v[j]); }
THINWIRE_HD F operator*(F a, F b) { THINWIRE_LANES(F, a.v[j] * b.v[j]); }
// a * b + c, rounded once.
THINWIRE_HD F multiply_add(F a, F b, F c) {
  THINWIRE_LANES(F, __builtin_fmaf(a.v[j], b.v[j], c.v[j]));
}
THINWIRE_HD I operator+(I a, I b) { THINWIRE_LANES(I, a.v[j] + b.v[j]); }
THINWIRE_HD I operator-(I a, I b) { THINWIRE_LANES(I, a.v[j] - b.v[j]); }
THINWIRE_HD I operator*(I a, I b) { THINWIRE_LANES(I, a.v[j] * b.v[j]); }
THINWIRE_HD I operator&(I a, I b) { THINWIRE_LANES(I, a.v[j] & b.v[j]); }
THINWIRE_HD I operator|(I a, I b) { THINWIRE_LANES(I, a.v[j] | b.v[j]); }
THINWIRE_HD I operator^(I a, I b) { THINWIRE_LANES(I, a.v[j] ^ b.v[j]); }
template <int k> THINWIRE_HD I shl(I a) { THINWIRE_LANES(I, a.v[j] << k); }
template <int k> THINWIRE_HD I shr(I a) { THINWIRE_LANES(I, a.v[j] >> k); } // logical
THINWIRE_HD std::int32_t as_signed(std::uint32_t x) { return static_cast<std::int32_t>(x); }
// Of signed lanes.
THINWIRE_HD I min_int(I a, I b) {
  THINWIRE_LANES(I, as_signed(a.v[j]) < as_signed(b.v[j]) ? a.v[j] : b.v[j]);
}
THINWIRE_HD I max_int(I a, I b) {
  THINWIRE_LANES(I, as_signed(a.v[j]) > as_signed(b.v[j]) ? a.v[j] : b.v[j]);
}
// All bits of a lane where a > b, none where not.
THINWIRE_HD I greater(I a, I b) {
  THINWIRE_LANES(I, as_signed(a.v[j]) > as_signed(b.v[j]) ? ~0u : 0u);
}

THINWIRE_HD I bits(F a) { THINWIRE_LANES(I, float_bits(a.v[j])); }
THINWIRE_HD F from_bits(I a) { THINWIRE_LANES(F, bits_float(a.v[j])); }
// Half to even, by adding and taking away 1.5 * 2^23; for |a| < 2^22, which every use keeps to.
THINWIRE_HD I rint_int(F a) { THINWIRE_LANES(I, float_bits(a.v[j] + 0x1.8p23f) - 0x4b400000u); }
THINWIRE_HD F to_float(I a) { THINWIRE_LANES(F, static_cast<float>(as_signed(a.v[j]))); }
THINWIRE_HD I floor_int(F a) {
  const I nearest = rint_int(a);
  const F back = to_float(nearest);
  THINWIRE_LANES(I, nearest.v[j] - (back.v[j] > a.v[j] ? 1u : 0u));
}

// Lane j has lane j ^ apart; apart is 1, 2, 4 or 8.
template <int apart> THINWIRE_HD F swap_lanes(F a) { THINWIRE_LANES(F, a.v[j ^ apart]); }

// The greatest lane; lanes below 2^31.
THINWIRE_HD std::uint32_t greatest(I a) {
  std::uint32_t most = a.v[0];
  for (std::uint32_t lane : a.v)
    most = lane > most ? lane : most;
  return most;
}
// The tree at the end of sum16 (conventions.md).
THINWIRE_HD float tree_sum(F a) {
  for (int half = 8; half > 0; half /= 2)
    for (int j = 0; j < half; ++j)
      a.v[j] += a.v[j + half];
  return a.v[0];
}

// tree_sum of eight vectors: side by side these take a third of the steps.
THINWIRE_HD void tree_sums(const F* a, float* sums) {
  for (int i = 0; i < 8; ++i)
    sums[i] = tree_sum(a[i]);
}

// A mask has lane j in bit j. Lanes and bound below 2^31, bound at least 1.
THINWIRE_HD std::uint16_t at_least(I a, std::uint32_t bound) {
  unsigned mask = 0;
  for (unsigned j = 0; j < 16; ++j)
    mask |= static_cast<unsigned>(a.v[j] >= bound) << j;
  return static_cast<std::uint16_t>(mask);
}
THINWIRE_HD std::uint16_t low_bits(I a) { return at_least(a & I::splat(1), 1); }
THINWIRE_HD I from_low_bits(std::uint16_t m) { THINWIRE_LANES(I, (std::uint32_t{m} >> j) & 1u); }

THINWIRE_HD F canonical(F a) {
  THINWIRE_LANES(F, a.v[j] == a.v[j] ? a.v[j] : bits_float(kFp32Nan));
}
THINWIRE_HD F zero_where_nonfinite(F a, F judged) {
  THINWIRE_LANES(F, (float_bits(judged.v[j]) & kMagnitudeMask) < kInfinityBits ? a.v[j] : 0.0f);
}

// Sixteen elements of a dtype, from and to memory of any alignment; a stored 16-bit value is
// rounded to nearest even, NaN canonical.
template <DType D> THINWIRE_HD F load(const void* p) {
  F r;
  if constexpr (D == DType::fp32) {
    __builtin_memcpy(r.v, p, 64);
  } else {
    std::uint16_t half[16];
    __builtin_memcpy(half, p, 32);
    for (int j = 0; j < 16; ++j)
      r.v[j] = D == DType::fp16 ? from_fp16(half[j]) : from_bf16(half[j]);
  }
  return r;
}
template <DType D> THINWIRE_HD void store(void* p, F a) {
  if constexpr (D == DType::fp32) {
    __builtin_memcpy(p, a.v, 64);
  } else {
    std::uint16_t half[16];
    for (int j = 0; j < 16; ++j)
      half[j] = D == DType::fp16 ? to_fp16(a.v[j]) : to_bf16(a.v[j]);
    __builtin_memcpy(p, half, 32);
  }
}

// Sixteen bytes, zero-extended; stored from lanes below 256.
THINWIRE_HD I load_bytes(const std::uint8_t* p) { THINWIRE_LANES(I, p[j]); }
THINWIRE_HD void store_bytes(std::uint8_t* p, I a) {
  for (int j = 0; j < 16; ++j)
    p[j] = static_cast<std::uint8_t>(a.v[j]);
}

// Sixty-four bytes as thirty-two lanes of 16 bits, for the boundaries of chunks. Eight lanes have a
// type of their own, which a compiler keeps in whatever registers the machine has.
struct W {
  using Eight [[gnu::vector_size(16)]] = std::uint16_t;
  using Signed [[gnu::vector_size(16)]] = std::int16_t;
  Eight v[4];
  static THINWIRE_HD W splat(std::uint16_t x) {
    const Eight all = Eight{} + x;
    return {{all, all, all, all}};
  }
};
#define THINWIRE_WORDS(expression)                                                                 \
  W r;                                                                                             \
  for (int j = 0; j < 4; ++j)                                                                      \
    r.v[j] = expression;                                                                           \
  return r

THINWIRE_HD W operator+(W a, W b) { THINWIRE_WORDS(a.v[j] + b.v[j]); }
THINWIRE_HD W operator*(W a, W b) { THINWIRE_WORDS(a.v[j] * b.v[j]); }
// Of signed lanes.
THINWIRE_HD W max_word(W a, W b) {
  THINWIRE_WORDS((W::Signed)a.v[j] > (W::Signed)b.v[j] ? a.v[j] : b.v[j]);
}
THINWIRE_HD W load_words(const std::uint8_t* p) {
  W r;
  __builtin_memcpy(r.v, p, 64);
  return r;
}
template <int kBytes> THINWIRE_HD W::Eight words_before(W::Eight before, W::Eight a) {
  constexpr int first = 8 - kBytes / 2;
  return __builtin_shufflevector(before, a, first, first + 1, first + 2, first + 3, first + 4,
                                 first + 5, first + 6, first + 7);
}
// The lanes that lie kBytes (8, 16 or 32) before those of `a`; `before` are the 64 bytes before.
template <int kBytes> THINWIRE_HD W words_before(W before, W a) {
  if constexpr (kBytes == 32)
    return {{before.v[2], before.v[3], a.v[0], a.v[1]}};
  else
    return {{words_before<kBytes>(before.v[3], a.v[0]), words_before<kBytes>(a.v[0], a.v[1]),
             words_before<kBytes>(a.v[1], a.v[2]), words_before<kBytes>(a.v[2], a.v[3])}};
}
// Which signed lanes are greater than the bound: lane j in bit j.
THINWIRE_HD std::uint32_t words_above(W a, std::int16_t bound) {
  std::uint32_t mask = 0;
  for (unsigned j = 0; j < 32; ++j)
    mask |= static_cast<std::uint32_t>(static_cast<std::int16_t>(a.v[j / 8][j % 8]) > bound) << j;
  return mask;
}
THINWIRE_HD bool any_above(W a, std::int16_t bound) {
  W::Signed above{};
  for (W::Eight lanes : a.v)
    above |= (W::Signed)lanes > bound;
  std::uint64_t half[2];
  __builtin_memcpy(half, &above, 16);
  return (half[0] | half[1]) != 0;
}

#undef THINWIRE_WORDS

#undef THINWIRE_LANES
