#include "hash/xxh3_long.hpp"

#include "core/cpu.hpp"
#include "core/inline.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#if !defined(__clang__) // GCC 12 warns of its own AVX-512 headers (GCC bug 105593)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace thinwire::xxh3_detail {
namespace {

// Stripes that lie one after the other: whole blocks, each scrambled at its end, and then fewer
// stripes than a block has. Each target goes through all of them with the sums in registers.
struct Stripes {
  const Byte* data;
  std::size_t blocks, per_block, rest;
  const Byte *secret, *scrambling;
};

constexpr std::size_t kSecretStep = 8; // of the secret between stripes
// Where the number of stripes is known, compilers keep the whole secret in registers.
constexpr std::size_t kUsualStripes = (kSecretBytes - kStripe) / kSecretStep;

void add_stripes(Accumulators& acc, const Byte* data, const Byte* secret, std::size_t count) {
  for (std::size_t s = 0; s < count; ++s, data += kStripe, secret += kSecretStep)
    for (std::size_t i = 0; i < 8; ++i) {
      const u64 value = read64(data + 8 * i), keyed = value ^ read64(secret + 8 * i);
      acc.lane[i ^ 1] += value;
      acc.lane[i] += static_cast<u32>(keyed) * (keyed >> 32);
    }
}

void scramble(Accumulators& acc, const Byte* secret) {
  for (std::size_t i = 0; i < 8; ++i) {
    u64& lane = acc.lane[i];
    lane = (lane ^ (lane >> 47) ^ read64(secret + 8 * i)) * kPrime32_1;
  }
}

void accumulate_scalar(Accumulators& acc, const Stripes& in) {
  const Byte* data = in.data;
  for (std::size_t b = 0; b < in.blocks; ++b, data += in.per_block * kStripe) {
    add_stripes(acc, data, in.secret, in.per_block);
    scramble(acc, in.scrambling);
  }
  add_stripes(acc, data, in.secret, in.rest);
}

#if defined(__x86_64__)

#define THINWIRE_AVX2 __attribute__((target("avx2")))

struct Sums256 {
  __m256i half[2];
};

THINWIRE_AVX2 THINWIRE_INLINE __m256i load256(const Byte* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

THINWIRE_AVX2 THINWIRE_INLINE void add_stripes(Sums256& sums, const Byte* data, const Byte* secret,
                                               std::size_t count) {
#pragma GCC unroll 16
  for (std::size_t s = 0; s < count; ++s, data += kStripe, secret += kSecretStep) {
    for (int i = 0; i < 2; ++i) {
      const __m256i value = load256(data + 32 * i);
      const __m256i keyed = _mm256_xor_si256(value, load256(secret + 32 * i));
      const __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
      const __m256i swapped = _mm256_shuffle_epi32(value, 0x4e);
      sums.half[i] = _mm256_add_epi64(sums.half[i], _mm256_add_epi64(product, swapped));
    }
  }
}

THINWIRE_AVX2 THINWIRE_INLINE void scramble(Sums256& sums, const Byte* secret) {
  const __m256i prime = _mm256_set1_epi64x(kPrime32_1);
  for (int i = 0; i < 2; ++i) {
    const __m256i lane = sums.half[i];
    const __m256i mixed = _mm256_xor_si256(_mm256_xor_si256(lane, _mm256_srli_epi64(lane, 47)),
                                           load256(secret + 32 * i));
    const __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime);
    sums.half[i] = _mm256_add_epi64(_mm256_mul_epu32(mixed, prime), _mm256_slli_epi64(high, 32));
  }
}

THINWIRE_AVX2 THINWIRE_INLINE const Byte* add_blocks(Sums256& sums, const Stripes& in,
                                                     std::size_t per_block) {
  const Byte* data = in.data;
  for (std::size_t b = 0; b < in.blocks; ++b, data += per_block * kStripe) {
    add_stripes(sums, data, in.secret, per_block);
    scramble(sums, in.scrambling);
  }
  return data;
}

THINWIRE_AVX2 void accumulate_avx2(Accumulators& acc, const Stripes& in) {
  auto* lanes = reinterpret_cast<__m256i*>(acc.lane);
  Sums256 sums{{_mm256_load_si256(lanes), _mm256_load_si256(lanes + 1)}};
  const Byte* data = in.per_block == kUsualStripes ? add_blocks(sums, in, kUsualStripes)
                                                   : add_blocks(sums, in, in.per_block);
  add_stripes(sums, data, in.secret, in.rest);
  _mm256_store_si256(lanes, sums.half[0]);
  _mm256_store_si256(lanes + 1, sums.half[1]);
}

#define THINWIRE_AVX512 __attribute__((target("avx512f")))

THINWIRE_AVX512 THINWIRE_INLINE void add_stripes(__m512i& sums, const Byte* data,
                                                 const Byte* secret, std::size_t count) {
#pragma GCC unroll 16
  for (std::size_t s = 0; s < count; ++s, data += kStripe, secret += kSecretStep) {
    const __m512i value = _mm512_loadu_si512(data);
    const __m512i keyed = _mm512_xor_si512(value, _mm512_loadu_si512(secret));
    const __m512i product = _mm512_mul_epu32(keyed, _mm512_srli_epi64(keyed, 32));
    const __m512i swapped = _mm512_shuffle_epi32(value, static_cast<_MM_PERM_ENUM>(0x4e));
    sums = _mm512_add_epi64(sums, _mm512_add_epi64(product, swapped));
  }
}

THINWIRE_AVX512 THINWIRE_INLINE void scramble(__m512i& sums, const Byte* secret) {
  const __m512i prime = _mm512_set1_epi64(kPrime32_1);
  const __m512i mixed = _mm512_xor_si512(_mm512_xor_si512(sums, _mm512_srli_epi64(sums, 47)),
                                         _mm512_loadu_si512(secret));
  const __m512i high = _mm512_mul_epu32(_mm512_srli_epi64(mixed, 32), prime);
  sums = _mm512_add_epi64(_mm512_mul_epu32(mixed, prime), _mm512_slli_epi64(high, 32));
}

THINWIRE_AVX512 THINWIRE_INLINE const Byte* add_blocks(__m512i& sums, const Stripes& in,
                                                       std::size_t per_block) {
  const Byte* data = in.data;
  for (std::size_t b = 0; b < in.blocks; ++b, data += per_block * kStripe) {
    add_stripes(sums, data, in.secret, per_block);
    scramble(sums, in.scrambling);
  }
  return data;
}

THINWIRE_AVX512 void accumulate_avx512(Accumulators& acc, const Stripes& in) {
  __m512i sums = _mm512_load_si512(acc.lane);
  const Byte* data = in.per_block == kUsualStripes ? add_blocks(sums, in, kUsualStripes)
                                                   : add_blocks(sums, in, in.per_block);
  add_stripes(sums, data, in.secret, in.rest);
  _mm512_store_si512(acc.lane, sums);
}
#endif

void accumulate_for_target(Accumulators& acc, const Stripes& in) {
#if defined(__x86_64__)
  if (active_target() == Target::avx512)
    return accumulate_avx512(acc, in);
  if (active_target() == Target::avx2)
    return accumulate_avx2(acc, in);
#endif
  accumulate_scalar(acc, in);
}

} // namespace

std::array<Byte, kSecretBytes> seeded_secret(u64 seed) {
  std::array<Byte, kSecretBytes> secret;
  for (std::size_t i = 0; i < kSecretBytes; i += 16) {
    const u64 low = read64(kSecret + i) + seed, high = read64(kSecret + i + 8) - seed;
    std::memcpy(secret.data() + i, &low, 8);
    std::memcpy(secret.data() + i + 8, &high, 8);
  }
  return secret;
}

u64 Accumulators::merged(const Byte* secret, u64 start) const {
  for (std::size_t i = 0; i < 4; ++i)
    start += multiply_fold(lane[2 * i] ^ read64(secret + 16 * i),
                           lane[2 * i + 1] ^ read64(secret + 16 * i + 8));
  return avalanche(start);
}

Accumulators accumulate(const Byte* data, std::size_t n, Secret secret) {
  const std::size_t per_block = (secret.size() - kStripe) / kSecretStep;
  const std::size_t stripes = (n - 1) / kStripe; // the last one lies at the very end
  const Byte* last = secret.data() + secret.size() - kStripe;
  Accumulators acc;
  accumulate_for_target(
      acc, {data, stripes / per_block, per_block, stripes % per_block, secret.data(), last});
  add_stripes(acc, data + n - kStripe, last - 7, 1);
  return acc;
}

} // namespace thinwire::xxh3_detail
