// XXH3-64 (Collet, the xxHash specification 0.8), the checksum of frames. Equal to xxhash.xxh3_64
// for every length and seed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace thinwire {

std::uint64_t xxh3_64(const void* data, std::size_t bytes, std::uint64_t seed = 0);

} // namespace thinwire
