#include "hash/xxh3_long.hpp"

namespace thinwire {
namespace {

using namespace xxh3_detail;

u64 hash_1_to_3(const Byte* data, std::size_t n, u64 seed) {
  return avalanche_xxh64(combine_1_to_3(data, n) ^
                         ((read32(kSecret) ^ read32(kSecret + 4)) + seed));
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
  return avalanche(acc + mix16(data + n - 16, kSecret + kXxh3LeastSecret - 17, seed));
}

u64 hash_long(const Byte* data, std::size_t n, Secret secret) {
  return accumulate(data, n, secret).merged(secret.data() + 11, n * kPrime64_1);
}

} // namespace

std::uint64_t xxh3_64(const void* data, std::size_t bytes, std::uint64_t seed) {
  const auto* p = static_cast<const Byte*>(data);
  if (bytes <= 16)
    return hash_up_to_16(p, bytes, seed);
  if (bytes <= 128)
    return hash_17_to_128(p, bytes, seed);
  if (bytes <= kMostShort)
    return hash_129_to_240(p, bytes, seed);
  return seed == 0 ? hash_long(p, bytes, kSecret) : hash_long(p, bytes, seeded_secret(seed));
}

} // namespace thinwire
