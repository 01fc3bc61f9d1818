// The loop of XXH3 over input of more than 240 bytes, and what both widths make of its
// result. Internal to hash/.
#pragma once

#include "hash/xxh3_mixing.hpp"

#include <array>
#include <span>

namespace thinwire::xxh3_detail {

inline constexpr std::size_t kMostShort = 240; // bytes: longer input is accumulated

using Secret = std::span<const Byte>; // at least kXxh3LeastSecret bytes

std::array<Byte, kSecretBytes> seeded_secret(u64 seed);

struct alignas(64) Accumulators {
  u64 lane[8] = {kPrime32_3, kPrime64_1, kPrime64_2, kPrime64_3,
                 kPrime64_4, kPrime32_2, kPrime64_5, kPrime32_1};

  u64 merged(const Byte* secret, u64 start) const;
};

// More than kMostShort bytes.
Accumulators accumulate(const Byte* data, std::size_t n, Secret secret);

} // namespace thinwire::xxh3_detail
