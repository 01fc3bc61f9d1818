// XXH3-64, the checksum of frames, and XXH3-128, which recognises blocks that have not changed
// (Collet, the xxHash specification 0.8). Equal to the xxhash package for every length and seed.
// Neither withstands data that were chosen to collide.
#pragma once

#include "hash/blocks.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace thinwire {

std::uint64_t xxh3_64(const void* data, std::size_t bytes, std::uint64_t seed = 0);

using Xxh3Digest = std::array<std::byte, 16>;
inline constexpr std::size_t kXxh3LeastSecret = 136;

Xxh3Digest xxh3_128(std::span<const std::byte> data, std::uint64_t seed = 0);

// With bytes that take the place of the algorithm's own; as good as they are random. Throws
// InvalidArgument for fewer than kXxh3LeastSecret of them.
Xxh3Digest xxh3_128_secret(std::span<const std::byte> data, std::span<const std::byte> secret);

// One digest a block; with the secret, where there is one. On up to `threads` threads (0: every
// core).
void xxh3_128_blocks(const Blocks& blocks, std::optional<std::span<const std::byte>> secret,
                     unsigned threads, Xxh3Digest* digests);

} // namespace thinwire
