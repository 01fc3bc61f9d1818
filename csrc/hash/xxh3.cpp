#include "hash/xxh3.hpp"

#include "core/cpu.hpp"

#include <array>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#if !defined(__clang__) // GCC 12 warns of its own AVX-512 headers (GCC bug 105593)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

static_assert(std::endian::native == std::endian::little);

namespace thinwire {
namespace {

using Byte = unsigned char;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
__extension__ using u128 = unsigned __int128;

constexpr u64 kPrime32_1 = 0x9E3779B1, kPrime32_2 = 0x85EBCA77, kPrime32_3 = 0xC2B2AE3D;
constexpr u64 kPrime64_1 = 0x9E3779B185EBCA87, kPrime64_2 = 0xC2B2AE3D27D4EB4F,
              kPrime64_3 = 0x165667B19E3779F9;
constexpr u64 kPrime64_4 = 0x85EBCA77C2B2AE63, kPrime64_5 = 0x27D4EB2F165667C5;
constexpr u64 kPrimeMx1 = 0x165667919E3779F9, kPrimeMx2 = 0x9FB21C651E98DF25;

constexpr std::size_t kStripe = 64, kSecretBytes = 192, kSecretMinimum = 136;
constexpr std::size_t kStripesPerBlock = (kSecretBytes - kStripe) / 8,
                      kBlock = kStripe * kStripesPerBlock;

alignas(64) constexpr Byte kSecret[kSecretBytes] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};

u32 read32(const Byte* p) {
  u32 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

u64 read64(const Byte* p) {
  u64 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

u64 multiply_fold(u64 a, u64 b) {
  const auto product = static_cast<u128>(a) * b;
  return static_cast<u64>(product) ^ static_cast<u64>(product >> 64);
}

u64 avalanche(u64 h) {
  h = (h ^ (h >> 37)) * kPrimeMx1;
  return h ^ (h >> 32);
}

u64 avalanche_xxh64(u64 h) {
  h = (h ^ (h >> 33)) * kPrime64_2;
  h = (h ^ (h >> 29)) * kPrime64_3;
  return h ^ (h >> 32);
}

u64 mix16(const Byte* data, const Byte* secret, u64 seed) {
  return multiply_fold(read64(data) ^ (read64(secret) + seed),
                       read64(data + 8) ^ (read64(secret + 8) - seed));
}

u64 hash_1_to_3(const Byte* data, std::size_t n, u64 seed) {
  const u32 combined =
      (u32{data[0]} << 16) | (u32{data[n >> 1]} << 24) | data[n - 1] | static_cast<u32>(n << 8);
  return avalanche_xxh64(combined ^ ((read32(kSecret) ^ read32(kSecret + 4)) + seed));
}

u64 hash_4_to_8(const Byte* data, std::size_t n, u64 seed) {
  seed ^= u64{__builtin_bswap32(static_cast<u32>(seed))} << 32;
  const u64 flip = (read64(kSecret + 8) ^ read64(kSecret + 16)) - seed;
  u64 h = (read32(data + n - 4) + (u64{read32(data)} << 32)) ^ flip;
  h ^= std::rotl(h, 49) ^ std::rotl(h, 24);
  h *= kPrimeMx2;
  h ^= (h >> 35) + n;
  h *= kPrimeMx2;
  return h ^ (h >> 28);
}

u64 hash_9_to_16(const Byte* data, std::size_t n, u64 seed) {
  const u64 low = read64(data) ^ ((read64(kSecret + 24) ^ read64(kSecret + 32)) + seed);
  const u64 high = read64(data + n - 8) ^ ((read64(kSecret + 40) ^ read64(kSecret + 48)) - seed);
  return avalanche(n + __builtin_bswap64(low) + high + multiply_fold(low, high));
}

u64 hash_up_to_16(const Byte* data, std::size_t n, u64 seed) {
  if (n > 8)
    return hash_9_to_16(data, n, seed);
  if (n >= 4)
    return hash_4_to_8(data, n, seed);
  if (n > 0)
    return hash_1_to_3(data, n, seed);
  return avalanche_xxh64(seed ^ read64(kSecret + 56) ^ read64(kSecret + 64));
}

u64 hash_17_to_128(const Byte* data, std::size_t n, u64 seed) {
  u64 acc = n * kPrime64_1;
  for (std::size_t i = (n - 1) / 32 + 1; i-- > 0;) { // pairs from both ends, the innermost first
    acc += mix16(data + 16 * i, kSecret + 32 * i, seed);
    acc += mix16(data + n - 16 * (i + 1), kSecret + 32 * i + 16, seed);
  }
  return avalanche(acc);
}

u64 hash_129_to_240(const Byte* data, std::size_t n, u64 seed) {
  u64 acc = n * kPrime64_1;
  for (std::size_t i = 0; i < 8; ++i)
    acc += mix16(data + 16 * i, kSecret + 16 * i, seed);
  acc = avalanche(acc);
  for (std::size_t i = 8; i < n / 16; ++i)
    acc += mix16(data + 16 * i, kSecret + 16 * (i - 8) + 3, seed);
  return avalanche(acc + mix16(data + n - 16, kSecret + kSecretMinimum - 17, seed));
}

// The accumulation of `stripes` stripes, and the scrambling at the end of a block, per CPU target.
struct alignas(64) Accumulators {
  u64 lane[8] = {kPrime32_3, kPrime64_1, kPrime64_2, kPrime64_3,
                 kPrime64_4, kPrime32_2, kPrime64_5, kPrime32_1};
};

void accumulate_scalar(Accumulators& acc, const Byte* data, const Byte* secret,
                       std::size_t stripes) {
  for (std::size_t s = 0; s < stripes; ++s, data += kStripe, secret += 8)
    for (std::size_t i = 0; i < 8; ++i) {
      const u64 value = read64(data + 8 * i), keyed = value ^ read64(secret + 8 * i);
      acc.lane[i ^ 1] += value;
      acc.lane[i] += static_cast<u32>(keyed) * (keyed >> 32);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void accumulate_avx2(Accumulators& acc, const Byte* data,
                                                     const Byte* secret, std::size_t stripes) {
  auto* lanes = reinterpret_cast<__m256i*>(acc.lane);
  __m256i sum[2] = {_mm256_load_si256(lanes), _mm256_load_si256(lanes + 1)};
  for (std::size_t s = 0; s < stripes; ++s, data += kStripe, secret += 8) {
    _mm_prefetch(reinterpret_cast<const char*>(data + 512), _MM_HINT_T0);
    for (int half = 0; half < 2; ++half) {
      const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + 32 * half));
      const __m256i keyed = _mm256_xor_si256(
          value, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(secret + 32 * half)));
      const __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
      sum[half] =
          _mm256_add_epi64(sum[half], _mm256_add_epi64(product, _mm256_shuffle_epi32(value, 0x4e)));
    }
  }
  _mm256_store_si256(lanes, sum[0]);
  _mm256_store_si256(lanes + 1, sum[1]);
}

__attribute__((target("avx512f"))) void accumulate_avx512(Accumulators& acc, const Byte* data,
                                                          const Byte* secret, std::size_t stripes) {
  __m512i sum = _mm512_load_si512(acc.lane);
  for (std::size_t s = 0; s < stripes; ++s, data += kStripe, secret += 8) {
    _mm_prefetch(reinterpret_cast<const char*>(data + 512), _MM_HINT_T0);
    const __m512i value = _mm512_loadu_si512(data);
    const __m512i keyed = _mm512_xor_si512(value, _mm512_loadu_si512(secret));
    const __m512i product = _mm512_mul_epu32(keyed, _mm512_srli_epi64(keyed, 32));
    sum = _mm512_add_epi64(
        sum,
        _mm512_add_epi64(product, _mm512_shuffle_epi32(value, static_cast<_MM_PERM_ENUM>(0x4e))));
  }
  _mm512_store_si512(acc.lane, sum);
}
#endif

using Accumulate = void (*)(Accumulators&, const Byte*, const Byte*, std::size_t);

Accumulate accumulate_for_target() {
#if defined(__x86_64__)
  if (active_target() == Target::avx512)
    return accumulate_avx512;
  if (active_target() == Target::avx2)
    return accumulate_avx2;
#endif
  return accumulate_scalar;
}

void scramble(Accumulators& acc, const Byte* secret) {
  for (std::size_t i = 0; i < 8; ++i) {
    u64& lane = acc.lane[i];
    lane = (lane ^ (lane >> 47) ^ read64(secret + 8 * i)) * kPrime32_1;
  }
}

std::array<Byte, kSecretBytes> seeded_secret(u64 seed) {
  std::array<Byte, kSecretBytes> secret;
  for (std::size_t i = 0; i < kSecretBytes; i += 16) {
    const u64 low = read64(kSecret + i) + seed, high = read64(kSecret + i + 8) - seed;
    std::memcpy(secret.data() + i, &low, 8);
    std::memcpy(secret.data() + i + 8, &high, 8);
  }
  return secret;
}

u64 merge(const Accumulators& acc, const Byte* secret, u64 start) {
  for (std::size_t i = 0; i < 4; ++i)
    start += multiply_fold(acc.lane[2 * i] ^ read64(secret + 16 * i),
                           acc.lane[2 * i + 1] ^ read64(secret + 16 * i + 8));
  return avalanche(start);
}

u64 hash_long(const Byte* data, std::size_t n, u64 seed) {
  const auto secret = seeded_secret(seed);
  const Accumulate accumulate = accumulate_for_target();
  Accumulators acc;
  const std::size_t blocks = (n - 1) / kBlock;
  for (std::size_t b = 0; b < blocks; ++b) {
    accumulate(acc, data + b * kBlock, secret.data(), kStripesPerBlock);
    scramble(acc, secret.data() + kSecretBytes - kStripe);
  }
  accumulate(acc, data + blocks * kBlock, secret.data(), (n - 1 - blocks * kBlock) / kStripe);
  accumulate(acc, data + n - kStripe, secret.data() + kSecretBytes - kStripe - 7, 1);
  return merge(acc, secret.data() + 11, n * kPrime64_1);
}

} // namespace

std::uint64_t xxh3_64(const void* data, std::size_t bytes, std::uint64_t seed) {
  const auto* p = static_cast<const Byte*>(data);
  if (bytes <= 16)
    return hash_up_to_16(p, bytes, seed);
  if (bytes <= 128)
    return hash_17_to_128(p, bytes, seed);
  if (bytes <= 240)
    return hash_129_to_240(p, bytes, seed);
  return hash_long(p, bytes, seed);
}

} // namespace thinwire
