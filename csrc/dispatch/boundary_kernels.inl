// The polynomial of boundary.hpp at 64 positions at a time: 32 of each parity.

THINWIRE_HD W two_words(const std::uint8_t* p) {
  return load_words(p) + load_words(p - 2) * W::splat(kBoundaryFactors[0]);
}

// The polynomial at 32 positions of one parity, and the sums of 4, 8 and 16 words there, which the
// next 32 positions need.
struct Polynomial {
  W four, eight, sixteen;

  // `p`: where the first of the words that end at these positions lies.
  THINWIRE_HD W advance(const std::uint8_t* p) {
    const W a = two_words(p) + two_words(p - 4) * W::splat(kBoundaryFactors[1]);
    const W b = a + words_before<8>(four, a) * W::splat(kBoundaryFactors[2]);
    const W c = b + words_before<16>(eight, b) * W::splat(kBoundaryFactors[3]);
    const W all = c + words_before<32>(sixteen, c) * W::splat(kBoundaryFactors[4]);
    *this = {a, b, c};
    return all;
  }
};

// Bit k of a mask moved to bit 2 k.
THINWIRE_HD std::uint64_t spread(std::uint64_t m) {
  m = (m | m << 16) & 0x0000ffff0000ffff;
  m = (m | m << 8) & 0x00ff00ff00ff00ff;
  m = (m | m << 4) & 0x0f0f0f0f0f0f0f0f;
  m = (m | m << 2) & 0x3333333333333333;
  return (m | m << 1) & 0x5555555555555555;
}

struct Boundaries {
  Polynomial odd, even;

  // Of positions 1 to 64 of the data, those above the bound: position i is bit i - 1.
  THINWIRE_HD std::uint64_t advance(const std::uint8_t* data, std::int16_t bound) {
    const W a = odd.advance(data - 1), b = even.advance(data);
    if (!any_above(max_word(a, b), bound)) [[likely]]
      return 0;
    return spread(words_above(a, bound)) | spread(words_above(b, bound)) << 1;
  }
};

THINWIRE_HD std::uint32_t* append_positions(std::uint64_t mask, std::size_t at,
                                            std::uint32_t* end) {
  for (; mask != 0; mask &= mask - 1)
    *end++ = static_cast<std::uint32_t>(at + 1) + static_cast<std::uint32_t>(__builtin_ctzll(mask));
  return end;
}

std::size_t find_boundaries(const std::uint8_t* data, std::size_t count, std::int16_t bound,
                            std::uint32_t* found) {
  constexpr std::size_t kGroup = 64;
  Boundaries boundaries{};
  boundaries.advance(data - kGroup, bound); // for its sums
  std::uint32_t* end = found;
  std::size_t at = 0;
  for (; at + kGroup <= count; at += kGroup) {
    __builtin_prefetch(data + at + kAheadBytes);
    end = append_positions(boundaries.advance(data + at, bound), at, end);
  }
  if (at < count) {
    const std::size_t left = count - at;
    std::uint8_t padded[2 * kGroup] = {};
    __builtin_memcpy(padded, data + at - kGroup, kGroup + left);
    const std::uint64_t wanted = (std::uint64_t{1} << left) - 1;
    end = append_positions(boundaries.advance(padded + kGroup, bound) & wanted, at, end);
  }
  return static_cast<std::size_t>(end - found);
}
