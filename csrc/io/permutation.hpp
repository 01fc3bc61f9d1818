// The order of shuffled samples: a keyed permutation of 0 .. size - 1 that takes no memory
// (docs/data/samplers.md; thinwire.reference.permutation is its specification).
//
// The generalised Feistel cipher of Black and Rogaway, "Ciphers with Arbitrary Finite Domains"
// (2002): an index is a pair of digits of radices about the square root of the size, and each round
// adds a keyed hash of one digit to the other. A pair beyond the size goes through the rounds
// again; hardly more than one index in the square root of the size does. The low radix is even:
// with two odd ones only even permutations could arise. The hash is the finaliser of SplitMix64:
// this makes good shuffles, not secrets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace thinwire {

class Permutation {
public:
  static constexpr std::uint64_t kLargest = std::uint64_t{1} << 62;

  // Throws InvalidArgument for a size that is not in 1 .. kLargest.
  Permutation(std::uint64_t size, std::uint64_t key);

  // Where the indices start, start + 1, ... go. Throws InvalidArgument unless all are below the
  // size.
  void take(std::uint64_t start, std::span<std::int64_t> out) const;

private:
  // Few samples take more rounds until all their orders are equally likely; from a thousand on, as
  // many as NIST's FF1 (SP 800-38G) has.
  static constexpr std::uint64_t kFew = 1000;
  static constexpr std::size_t kRounds = 10, kRoundsOfFew = 24;

  // The digits of several indices, high * low_radix_ + low: a round of one waits for its round
  // before, so that several at once take less time.
  template <std::size_t lanes> struct Pairs {
    std::array<std::uint64_t, lanes> low, high;
  };

  template <std::size_t lanes> void add_hashes(Pairs<lanes>& pairs) const;
  std::uint64_t walked(std::uint64_t low, std::uint64_t high) const;

  std::uint64_t size_, low_radix_, high_radix_; // both radices are at most 2^31
  std::size_t rounds_;
  std::array<std::uint64_t, kRoundsOfFew> keys_;
};

} // namespace thinwire
