// The first test for a boundary between chunks, of the profile "native" (docs/wire/chunking.md).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace thinwire {

// The polynomial at a position is p5 there, mod 2^16: p0 is the word of the two bytes before the
// position, and p[k + 1](i) = p[k](i) + kBoundaryFactors[k] * p[k](i - 2^(k + 1)).
inline constexpr std::array<std::uint16_t, 5> kBoundaryFactors = {0x1593, 0xbb45, 0xea11, 0x2005,
                                                                  0x49fd};
inline constexpr std::size_t kBoundaryWindow = 64;   // bytes it depends on
inline constexpr std::size_t kBoundaryLookback = 80; // bytes before the data that kernels read

// Writes to `found`, which has room for `count`, the positions from 1 to `count` whose polynomial,
// taken as signed, is above the bound; position i lies behind i bytes of the data. Returns how many
// there are. The kBoundaryLookback bytes before the data are read.
using FindBoundaries = std::size_t (*)(const std::uint8_t* data, std::size_t count,
                                       std::int16_t bound, std::uint32_t* found);

} // namespace thinwire
