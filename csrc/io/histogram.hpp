// Bins that are the same for every field: the sign, the exponent and the leading mantissa bits of a
// value. So any two histograms can be added or compared, whatever ranges their values had.
#pragma once

#include "codec/math.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace thinwire {

// A bin is at most 2^-4 of its lower end wide: its middle is within 2^-5 of each of its values.
inline constexpr unsigned kBinMantissaBits = 4;
inline constexpr unsigned kBinShift = 23 - kBinMantissaBits;
inline constexpr std::size_t kBins = std::size_t{1} << (32 - kBinShift);
// Holds whatever lies nearer to zero than 2^-130, of both signs.
inline constexpr std::size_t kZeroBin = 0, kNegativeZeroBin = kBins / 2;

// The bin of a value are the leading bits of it as fp32, rounded towards zero.
THINWIRE_HD constexpr std::uint32_t bin_of_bits(std::uint32_t fp32_bits) {
  return fp32_bits >> kBinShift;
}

// Counts of values a bin.
using Histogram = std::vector<std::uint64_t>;

} // namespace thinwire
