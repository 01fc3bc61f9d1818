#include "hash/xxh3_long.hpp"

#include "core/error.hpp"

#include <string>

namespace thinwire {
namespace {

using namespace xxh3_detail;

struct Halves {
  u64 low, high;

  Xxh3Digest digest() const { // the canonical form: big-endian
    const u64 words[2] = {__builtin_bswap64(high), __builtin_bswap64(low)};
    return std::bit_cast<Xxh3Digest>(words);
  }
};

Halves multiply(u64 a, u64 b) {
  const auto product = static_cast<u128>(a) * b;
  return {static_cast<u64>(product), static_cast<u64>(product >> 64)};
}

u64 key_at(const Byte* secret) { return read64(secret) ^ read64(secret + 8); }

Halves hash_empty(const Byte* secret, u64 seed) {
  return {avalanche_xxh64(seed ^ key_at(secret + 64)), avalanche_xxh64(seed ^ key_at(secret + 80))};
}

Halves hash_1_to_3(const Byte* data, std::size_t n, const Byte* secret, u64 seed) {
  const u32 low = combine_1_to_3(data, n);
  const u32 high = std::rotl(__builtin_bswap32(low), 13);
  return {avalanche_xxh64(low ^ ((read32(secret) ^ read32(secret + 4)) + seed)),
          avalanche_xxh64(high ^ ((read32(secret + 8) ^ read32(secret + 12)) - seed))};
}

Halves hash_4_to_8(const Byte* data, std::size_t n, const Byte* secret, u64 seed) {
  seed ^= u64{__builtin_bswap32(static_cast<u32>(seed))} << 32;
  const u64 value = read32(data) + (u64{read32(data + n - 4)} << 32);
  Halves h = multiply(value ^ (key_at(secret + 16) + seed), kPrime64_1 + (n << 2));
  h.high += h.low << 1;
  h.low ^= h.high >> 3;
  h.low = (h.low ^ (h.low >> 35)) * kPrimeMx2;
  return {h.low ^ (h.low >> 28), avalanche(h.high)};
}

Halves hash_9_to_16(const Byte* data, std::size_t n, const Byte* secret, u64 seed) {
  const u64 first = read64(data), last = read64(data + n - 8);
  Halves h = multiply(first ^ last ^ (key_at(secret + 32) - seed), kPrime64_1);
  h.low += static_cast<u64>(n - 1) << 54;
  const u64 keyed = last ^ (key_at(secret + 48) + seed);
  h.high += keyed + static_cast<u32>(keyed) * (kPrime32_2 - 1);
  h.low ^= __builtin_bswap64(h.high);
  const u64 high = h.high;
  h = multiply(h.low, kPrime64_2);
  return {avalanche(h.low), avalanche(h.high + high * kPrime64_2)};
}

Halves hash_up_to_16(const Byte* data, std::size_t n, const Byte* secret, u64 seed) {
  if (n > 8)
    return hash_9_to_16(data, n, secret, seed);
  if (n >= 4)
    return hash_4_to_8(data, n, secret, seed);
  if (n > 0)
    return hash_1_to_3(data, n, secret, seed);
  return hash_empty(secret, seed);
}

// Takes in 16 bytes at each of two places.
void mix32(Halves& h, const Byte* a, const Byte* b, const Byte* secret, u64 seed) {
  h.low += mix16(a, secret, seed);
  h.low ^= read64(b) + read64(b + 8);
  h.high += mix16(b, secret + 16, seed);
  h.high ^= read64(a) + read64(a + 8);
}

Halves finish_short(const Halves& h, std::size_t n, u64 seed) {
  return {avalanche(h.low + h.high),
          0 - avalanche(h.low * kPrime64_1 + h.high * kPrime64_4 + (n - seed) * kPrime64_2)};
}

Halves hash_17_to_128(const Byte* data, std::size_t n, const Byte* secret, u64 seed) {
  Halves h{n * kPrime64_1, 0};
  for (std::size_t i = (n - 1) / 32 + 1; i-- > 0;) // pairs from both ends, the innermost first
    mix32(h, data + 16 * i, data + n - 16 * (i + 1), secret + 32 * i, seed);
  return finish_short(h, n, seed);
}

Halves hash_129_to_240(const Byte* data, std::size_t n, const Byte* secret, u64 seed) {
  Halves h{n * kPrime64_1, 0};
  for (std::size_t i = 0; i < 4; ++i)
    mix32(h, data + 32 * i, data + 32 * i + 16, secret + 32 * i, seed);
  h = {avalanche(h.low), avalanche(h.high)};
  for (std::size_t i = 4; i < n / 32; ++i)
    mix32(h, data + 32 * i, data + 32 * i + 16, secret + 3 + 32 * (i - 4), seed);
  mix32(h, data + n - 16, data + n - 32, secret + kXxh3LeastSecret - 33, 0 - seed);
  return finish_short(h, n, seed);
}

Halves hash_short(const Byte* data, std::size_t n, const Byte* secret, u64 seed) {
  if (n <= 16)
    return hash_up_to_16(data, n, secret, seed);
  if (n <= 128)
    return hash_17_to_128(data, n, secret, seed);
  return hash_129_to_240(data, n, secret, seed);
}

Halves hash_long(const Byte* data, std::size_t n, Secret secret) {
  const Accumulators acc = accumulate(data, n, secret);
  return {acc.merged(secret.data() + 11, n * kPrime64_1),
          acc.merged(secret.data() + secret.size() - kStripe - 11, ~(n * kPrime64_2))};
}

const Byte* bytes_of(std::span<const std::byte> data) {
  return reinterpret_cast<const Byte*>(data.data());
}

void check_secret(std::span<const std::byte> secret) {
  if (secret.size() < kXxh3LeastSecret)
    throw InvalidArgument("a secret of XXH3 has at least " + std::to_string(kXxh3LeastSecret) +
                          " bytes, this one has " + std::to_string(secret.size()));
}

} // namespace

Xxh3Digest xxh3_128(std::span<const std::byte> data, std::uint64_t seed) {
  if (data.size() <= kMostShort)
    return hash_short(bytes_of(data), data.size(), kSecret, seed).digest();
  const Halves h = seed == 0 ? hash_long(bytes_of(data), data.size(), kSecret)
                             : hash_long(bytes_of(data), data.size(), seeded_secret(seed));
  return h.digest();
}

Xxh3Digest xxh3_128_secret(std::span<const std::byte> data, std::span<const std::byte> secret) {
  check_secret(secret);
  if (data.size() <= kMostShort)
    return hash_short(bytes_of(data), data.size(), bytes_of(secret), 0).digest();
  return hash_long(bytes_of(data), data.size(), {bytes_of(secret), secret.size()}).digest();
}

void xxh3_128_blocks(const Blocks& blocks, std::optional<std::span<const std::byte>> secret,
                     unsigned threads, Xxh3Digest* digests) {
  if (secret)
    check_secret(*secret);
  for_each_range(blocks, threads, [&](BlockRange range) {
    for (std::size_t i = range.first; i < range.end; ++i)
      digests[i] = secret ? xxh3_128_secret(blocks[i], *secret) : xxh3_128(blocks[i]);
  });
}

} // namespace thinwire
