// Which positions are candidates for a boundary, of the profile "native" (docs/wire/chunking.md);
// for the host and for CUDA.
#pragma once

#include "core/types.hpp"

#include <algorithm>
#include <bit>

namespace thinwire {

class CandidateRule {
public:
  explicit CandidateRule(std::uint64_t average)
      : average_(average),
        polynomial_bits_(std::min<unsigned>(
            kMostPolynomialBits,
            static_cast<unsigned>(std::bit_width(average >> kNormalisationBits)) - 1)) {}

  // Of signed polynomials, the candidates' are above it.
  std::int16_t polynomial_bound() const {
    return static_cast<std::int16_t>(0x7fff - (0x10000 >> polynomial_bits_));
  }

  // The polynomial lets through one position in 2^polynomial_bits_; the upper half of the hash of
  // the window does the rest.
  THINWIRE_HD bool is_loose(std::uint64_t hash) const {
    return (hash >> 32) * average_ < one_an_average() << kNormalisationBits;
  }
  THINWIRE_HD bool is_strict(std::uint64_t hash) const {
    return (hash >> 32) * average_ < one_an_average() >> kNormalisationBits;
  }

private:
  static constexpr unsigned kMostPolynomialBits = 12;
  // A strict candidate is found every 4 averages of random data, a loose one every average / 4.
  static constexpr unsigned kNormalisationBits = 2;

  THINWIRE_HD std::uint64_t one_an_average() const {
    return std::uint64_t{1} << (32 + polynomial_bits_);
  }

  std::uint64_t average_;
  unsigned polynomial_bits_; // of which a candidate's polynomial has a fixed value
};

} // namespace thinwire
