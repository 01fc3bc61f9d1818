// XXH3-64 of exactly 64 bytes that lie in registers, on the host and in CUDA.
#pragma once

#include "hash/xxh3_mixing.hpp"

namespace thinwire {
namespace xxh3_detail {

constexpr u64 secret_word(std::size_t at) {
  u64 word = 0;
  for (std::size_t i = 8; i-- > 0;)
    word = word << 8 | kSecret[at + i];
  return word;
}

// A number that device code can use, which has no access to tables of the host.
template <std::size_t At> inline constexpr u64 kSecretWord = secret_word(At);

// mix16() of two words and the secret at a place, without a seed.
template <std::size_t Secret> THINWIRE_HD u64 mix_words(u64 low, u64 high) {
  return multiply_fold(low ^ kSecretWord<Secret>, high ^ kSecretWord<Secret + 8>);
}

} // namespace xxh3_detail

// Of 16 words of four bytes.
THINWIRE_HD std::uint64_t xxh3_64_of_words(const std::uint32_t* words) {
  using namespace xxh3_detail;
  const auto pair = [=](int i) { return words[2 * i] | u64{words[2 * i + 1]} << 32; };
  return avalanche(64 * kPrime64_1 + mix_words<0>(pair(0), pair(1)) +
                   mix_words<32>(pair(2), pair(3)) + mix_words<48>(pair(4), pair(5)) +
                   mix_words<16>(pair(6), pair(7)));
}

} // namespace thinwire
