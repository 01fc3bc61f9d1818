// BLAKE3's compression function, for one input (Word is u32) or for several side by side (Word is
// a vector of u32, one lane an input); in CUDA too. Internal to hash/.
#pragma once

#include "core/types.hpp"
#include "hash/blake3.hpp"

#include <bit>
#include <utility>

static_assert(std::endian::native == std::endian::little);

namespace thinwire::blake3_detail {

using u32 = std::uint32_t;
using u64 = std::uint64_t;
using ChainingValue = Blake3::ChainingValue;

inline constexpr u32 kBlockBytes = 64, kChunkBytes = Blake3::kChunk;
inline constexpr u32 kChunkStart = 1, kChunkEnd = 2, kParent = 4, kRoot = 8, kKeyedHash = 16;

inline constexpr ChainingValue kInitial = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                           0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
template <std::size_t I> inline constexpr u32 kInitialWord = kInitial[I];
inline constexpr int kRounds = 7;

struct Schedule {
  int word[kRounds][16]; // which message word a round takes where
};

constexpr Schedule make_schedule() {
  constexpr int kPermutation[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
  Schedule schedule{};
  for (int i = 0; i < 16; ++i)
    schedule.word[0][i] = i;
  for (int round = 1; round < kRounds; ++round)
    for (int i = 0; i < 16; ++i)
      schedule.word[round][i] = schedule.word[round - 1][kPermutation[i]];
  return schedule;
}

inline constexpr Schedule kSchedule = make_schedule();

// A number that device code can use, which has no access to tables of the host.
template <int Round, int Place> inline constexpr int kMessageWord = kSchedule.word[Round][Place];

// How words are rotated where the target has nothing better.
struct ByShifts {
  template <int Bits, class Word> static THINWIRE_HD void rotate_right(Word& w) {
    w = (w >> Bits) | (w << (32 - Bits));
  }
};

// Half of a quarter round, in four columns: four chains of operations that do not wait for each
// other, written step by step, because compilers keep the order they find.
template <int Round, int Place, int RotateD, int RotateB, class Rotate, class Word>
THINWIRE_HD void mix_half(Word* v, const int (&b)[4], const int (&c)[4], const int (&d)[4],
                          const Word* message) {
  v[0] += message[kMessageWord<Round, Place>];
  v[1] += message[kMessageWord<Round, Place + 2>];
  v[2] += message[kMessageWord<Round, Place + 4>];
  v[3] += message[kMessageWord<Round, Place + 6>];
  for (int i = 0; i < 4; ++i)
    v[i] += v[b[i]];
  for (int i = 0; i < 4; ++i)
    v[d[i]] ^= v[i];
  for (int i = 0; i < 4; ++i)
    Rotate::template rotate_right<RotateD>(v[d[i]]);
  for (int i = 0; i < 4; ++i)
    v[c[i]] += v[d[i]];
  for (int i = 0; i < 4; ++i)
    v[b[i]] ^= v[c[i]];
  for (int i = 0; i < 4; ++i)
    Rotate::template rotate_right<RotateB>(v[b[i]]);
}

template <int Round, int Place, class Rotate, class Word>
THINWIRE_HD void mix_columns(Word* v, const int (&b)[4], const int (&c)[4], const int (&d)[4],
                             const Word* message) {
  mix_half<Round, Place, 16, 12, Rotate>(v, b, c, d, message);
  mix_half<Round, Place + 1, 8, 7, Rotate>(v, b, c, d, message);
}

template <int Round, class Rotate, class Word>
THINWIRE_HD void mix_round(Word* v, const Word* message) {
  mix_columns<Round, 0, Rotate>(v, {4, 5, 6, 7}, {8, 9, 10, 11}, {12, 13, 14, 15}, message);
  mix_columns<Round, 8, Rotate>(v, {5, 6, 7, 4}, {10, 11, 8, 9}, {15, 12, 13, 14}, message);
}

// The seven rounds over a state of 16 words. What follows them differs between uses.
template <class Rotate, class Word> THINWIRE_HD void mix_all(Word* v, const Word* message) {
  [&]<int... Round>(std::integer_sequence<int, Round...>) __attribute__((always_inline)) {
    (mix_round<Round, Rotate>(v, message), ...);
  }(std::make_integer_sequence<int, kRounds>());
}

// The 16 words of one input's state behind the rounds.
THINWIRE_HD void mix_block(u32* v, const u32* value, const u32* message, u64 counter, u32 bytes,
                           u32 flags) {
  for (int i = 0; i < 8; ++i)
    v[i] = value[i];
  v[8] = kInitialWord<0>;
  v[9] = kInitialWord<1>;
  v[10] = kInitialWord<2>;
  v[11] = kInitialWord<3>;
  v[12] = static_cast<u32>(counter);
  v[13] = static_cast<u32>(counter >> 32);
  v[14] = bytes;
  v[15] = flags;
  mix_all<ByShifts>(v, message);
}

} // namespace thinwire::blake3_detail
