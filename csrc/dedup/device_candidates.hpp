// Candidates for boundaries in the memory of a device, as two bits a position. A kernel's
// operator()(i) is what thread number i does; a native test runs the same code on the host.
#pragma once

#include "core/load_words.hpp"
#include "dedup/candidate.hpp"
#include "dispatch/boundary.hpp"
#include "hash/xxh3_window.hpp"

#include <utility>

namespace thinwire::device {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

inline constexpr unsigned kGroup = 64; // positions, or words of the level below, that a word marks

// Bit b stands for the bth position of a group. A strict candidate is a loose one too.
struct Marks {
  u64 loose, strict;
};

THINWIRE_HD unsigned lowest_bit(u64 word) {
#if defined(__CUDA_ARCH__)
  return static_cast<unsigned>(__ffsll(static_cast<long long>(word)) - 1);
#else
  return static_cast<unsigned>(__builtin_ctzll(word));
#endif
}

// The polynomial at 32 positions of one parity, by doubling in place.
class Polynomials {
public:
  // `words`: 128 bytes. Of parity 0 for the positions 64, 66, ... 126 of them, of 1 for 65 to 127.
  template <unsigned Parity> THINWIRE_HD static Polynomials of(const u32* words) {
    Polynomials made;
    made.load<Parity>(words, std::make_integer_sequence<int, kTerms>());
    made.add<1, kBoundaryFactors[0]>(std::make_integer_sequence<int, kTerms - 1>());
    made.add<2, kBoundaryFactors[1]>(std::make_integer_sequence<int, kTerms - 3>());
    made.add<4, kBoundaryFactors[2]>(std::make_integer_sequence<int, kTerms - 7>());
    made.add<8, kBoundaryFactors[3]>(std::make_integer_sequence<int, kTerms - 15>());
    made.add<16, kBoundaryFactors[4]>(std::make_integer_sequence<int, kTerms - 31>());
    return made;
  }

  // Bit 2 i is whether the polynomial at the ith position is above the bound.
  THINWIRE_HD u64 above(std::int16_t bound) const {
    return above(bound, std::make_integer_sequence<int, kPositions>());
  }

private:
  static constexpr int kPositions = 32, kTerms = 2 * kPositions - 1;

  template <unsigned Parity, int... I>
  THINWIRE_HD void load(const u32* words, std::integer_sequence<int, I...>) {
    ((terms_[I] = two_bytes<2 * I + Parity>(words)), ...);
  }

  // Only the low 16 bits count.
  template <unsigned Byte> THINWIRE_HD static u32 two_bytes(const u32* words) {
    if constexpr (Byte % 4 == 3)
      return words[Byte / 4] >> 24 | words[Byte / 4 + 1] << 8;
    else
      return words[Byte / 4] >> 8 * (Byte % 4);
  }

  // From the last term down, so that a term is read before it changes.
  template <int Apart, u32 Factor, int... I>
  THINWIRE_HD void add(std::integer_sequence<int, I...>) {
    ((terms_[kTerms - 1 - I] += Factor * terms_[kTerms - 1 - I - Apart]), ...);
  }

  template <int... I>
  THINWIRE_HD u64 above(std::int16_t bound, std::integer_sequence<int, I...>) const {
    return (... | (u64{static_cast<std::int16_t>(terms_[kPositions - 1 + I]) > bound} << 2 * I));
  }

  u32 terms_[kTerms];
};

// Thread i marks the positions 64 (first + i) to 64 (first + i) + 63.
struct FindCandidates {
  const std::uint8_t* data;
  u64 size;
  CandidateRule rule;
  std::int16_t bound; // the rule's
  u64 first;
  Marks* marks;

  THINWIRE_HD void operator()(u64 i) const {
    const u64 begin = (first + i) * kGroup;
    Marks found{};
    if (begin >= kBoundaryWindow) // positions before the first window are no candidates
      for (u64 left = possible(begin); left != 0; left &= left - 1)
        confirm(begin, lowest_bit(left), found);
    marks[i] = found;
  }

private:
  THINWIRE_HD u64 possible(u64 begin) const {
    u32 words[2 * kGroup / 4];
    const u64 from = begin - kBoundaryWindow;
    load_words_padded<2 * kGroup / 4>(data + from, size - from, words);
    const u64 mask = Polynomials::of<0>(words).above(bound) | Polynomials::of<1>(words).above(bound)
                                                                  << 1;
    const u64 last = size - begin; // the position where the data ends is one
    return last >= kGroup - 1 ? mask : mask & ((u64{2} << last) - 1);
  }

  THINWIRE_HD void confirm(u64 begin, unsigned bit, Marks& found) const {
    u32 window[kBoundaryWindow / 4];
    load_words<kBoundaryWindow / 4>(data + begin + bit - kBoundaryWindow, window);
    const u64 hash = xxh3_64_of_words(window);
    found.loose |= u64{rule.is_loose(hash)} << bit;
    found.strict |= u64{rule.is_strict(hash)} << bit;
  }
};

// Thread i tells which of the words 64 i to 64 i + 63 of the level below have marks.
struct MarkGroups {
  const Marks* below;
  u64 count; // of the level below
  Marks* marks;

  THINWIRE_HD void operator()(u64 i) const {
    Marks found{};
    for (unsigned bit = 0; bit < kGroup && kGroup * i + bit < count; ++bit) {
      const Marks& word = below[kGroup * i + bit];
      found.loose |= u64{word.loose != 0} << bit;
      found.strict |= u64{word.strict != 0} << bit;
    }
    marks[i] = found;
  }
};

// The candidates among positions from `from` (a multiple of kGroup) on, as a tree of marks in which
// the next one is found in a few steps, however far it is.
struct CandidateMap {
  static constexpr unsigned kLevels = 3;

  u64 from;
  const Marks* levels[kLevels];
  u64 words[kLevels];

  // The first candidate from `begin` on that lies before `end`; `end`, if there is none.
  template <u64 Marks::* Kind> THINWIRE_HD u64 first(u64 begin, u64 end) const {
    if (begin < from)
      begin = from; // an earlier map has shown what lies there
    if (begin >= end)
      return end;
    u64 at = begin - from; // a bit of the level: a word of the level below
    for (unsigned level = 0;;) {
      const u64 word = at / kGroup;
      if (word >= words[level])
        return end;
      const u64 left = levels[level][word].*Kind >> at % kGroup;
      if (left != 0) {
        const u64 found = from + lowest_below<Kind>(level, at + lowest_bit(left));
        return found < end ? found : end;
      }
      at = word + 1;
      if (level + 1 < kLevels)
        ++level;
      else
        at *= kGroup;
      if (at > (end - from) >> 6 * level)
        return end;
    }
  }

private:
  // The position of the first candidate under a bit of a level.
  template <u64 Marks::* Kind> THINWIRE_HD u64 lowest_below(unsigned level, u64 at) const {
    for (; level > 0; --level)
      at = at * kGroup + lowest_bit(levels[level - 1][at].*Kind);
    return at;
  }
};

} // namespace thinwire::device
