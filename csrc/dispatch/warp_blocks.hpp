// Kernels of every BlockCodec, each in the form of a BlockCoding.
//
// Encoding, a unit is a tile: as many whole blocks as make about a thousand values, or one block
// where that is larger. It lies in the warp's fast memory from the first step to the last:
//   1. y = x * scale + residual is read, by quads;
//   2. every block's scale is found (warp_scales.hpp);
//   3. every lane makes words of four bytes of codes: of each digit of theirs four neighbours,
//      whose errors it writes by quads.
// Rotated blocks are rotated between the first two steps; what their codes decode to takes the
// place of y, is rotated back, and taken from y, which is read again.
//
// So each value is read once and written once. fp32 with a residual: 4 + 4 bytes read and 4 + its
// code written, 13 a value for int8, 12.5 for int4, 12.25 for int2, 12.2 for ternary and 12.1 for
// sign1; some 45 instructions, more for fitted scales and stochastic rounding.
//
// Decoding, every lane has quads of the output, and reads the word that holds their codes. From p
// frames 4 bytes and a code for each of them (and 4 more to accumulate): 8 a value for int8 from
// four; some 8 instructions a frame, and 9. Rotated blocks are decoded in fast memory, and each
// frame is added to the output on its own: 8 bytes more for every frame after the first.
#pragma once

#include "dispatch/warp_rotation.hpp"

namespace thinwire::lane {

// The codes of four neighbours, in the bytes of a word; for a radix of 2 in its lowest bits.
template <BlockCodec C> THINWIRE_TEAM I packed(I a, I b, I c, I d) {
  if constexpr (C::kRadix == 2)
    return a | shl<1>(b) | shl<2>(c) | shl<3>(d);
  else
    return a | shl<8>(b) | shl<16>(c) | shl<24>(d);
}

// The scale that codes are multiplied by.
template <BlockCodec C> THINWIRE_TEAM F decoding_scale(F scale, unsigned block) {
  return C::kRotate ? F::splat(rotated_scale(scale.v, block)) : scale;
}

template <BlockCodec C> struct EncodeBlock {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) {
    return ceil_div(a.n, Tile<C>::values(a.spec.block));
  }
  static THINWIRE_HD std::size_t scratch(const EncodeArgs& a) {
    return Tile<C>::values(a.spec.block);
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float* y) const {
    const EncodeArgs& a = item.args;
    const Tile<C> tile(a.n, a.spec.block, unit);
    fill(team, a, tile, y);
    if constexpr (C::kRotate)
      rotate(team, tile, y);
    auto scales = block_scales(team, tile, y, a.gain);
    write_scales(team, a, tile, scales);
    const auto values = team.lanes([&](unsigned lane) { return team.own(scales, lane).value; });
    const auto inverses = team.lanes([&](unsigned lane) { return team.own(scales, lane).inverse; });
    write_codes(team, a, tile, values, inverses, y);
    if constexpr (C::kRotate)
      if (a.residual_out) {
        transform_back(team, tile, y);
        write_errors(team, a, tile, values, y);
      }
  }

private:
  // A tile has no ragged end of them.
  static constexpr unsigned kQuadsAtOnce = Tile<C>::values(0) % Quads<4>::kSpan == 0 ? 4 : 2;

  template <class Team>
  static THINWIRE_TEAM void fill(const Team& team, const EncodeArgs& a, const Tile<C>& tile,
                                 float* y) {
    const std::size_t past = tile.at + tile.padded();
    team.lanes([&](unsigned lane) {
      each_quad<kQuadsAtOnce>(a, tile.at, tile.end, past, lane, [&](std::size_t i, const Quad& q) {
        put(y, static_cast<unsigned>(i - tile.at), q);
      });
    });
  }

  template <class Team, class Scales>
  THINWIRE_TEAM void write_scales(const Team& team, const EncodeArgs& a, const Tile<C>& tile,
                                  Scales& scales) const {
    const std::uint32_t spoiled = team.ballot([&](unsigned lane) {
      return lane < tile.blocks && is_nan_scale(team.own(scales, lane).bits);
    });
    team.lanes([&](unsigned lane) {
      if (lane < tile.blocks)
        reinterpret_cast<std::uint16_t*>(a.payload)[tile.first_block + lane] =
            team.own(scales, lane).bits;
      if (lane == 0 && spoiled != 0)
        team.add(a.nonfinite, std::uint64_t{count_bits(spoiled)});
    });
    if (tile.end == a.n) {
      const BlockSections s = tile.sections;
      fill_zero(team, a.payload + 2 * s.blocks, a.payload + s.codes);
      fill_zero(team, a.payload + s.codes + s.blocks * code_bytes(tile.block, C::kRadix),
                a.payload + s.bytes);
    }
  }

  // `values` and `inverses` are the scales', block b's in lane b.
  template <class Team, class Each>
  static THINWIRE_TEAM void write_codes(const Team& team, const EncodeArgs& a, const Tile<C>& tile,
                                        const Each& values, const Each& inverses, float* y) {
    auto* words = reinterpret_cast<std::uint32_t*>(
        a.payload + tile.sections.codes + tile.first_block * code_bytes(tile.block, C::kRadix));
    for (unsigned first = 0; first < tile.words(); first += kWarp) {
      const auto block = [&](unsigned lane) { return tile.block_of_word(first + lane); };
      auto value = team.gather(values, block), inverse = team.gather(inverses, block);
      const auto word = team.lanes([&](unsigned lane) {
        if (first + lane >= tile.words())
          return std::uint32_t{0};
        const Scale scale = {team.own(value, lane), team.own(inverse, lane)};
        return encode_word(a, tile, scale, first + lane, y).v;
      });
      write_word(team, tile, words, first, word);
    }
  }

  // A block's scale, and its inverse.
  struct Scale {
    F value, inverse;
  };

  // The codes of four values, or of four of each digit, whose errors are kept.
  static THINWIRE_TEAM I encode_word(const EncodeArgs& a, const Tile<C>& tile, const Scale& scale,
                                     unsigned word, float* y) {
    const unsigned block = tile.block_of_word(word),
                   place = block * tile.block + kQuad * (word - block * tile.words_of_block());
    I codes = I::splat(0);
    THINWIRE_UNROLL
    for (unsigned digit = Tile<C>::kDigits; digit-- > 0;) {
      const unsigned i = place + digit * tile.part();
      const I next = encode_quad(a, tile, scale, i, y);
      codes = digit + 1 == Tile<C>::kDigits ? next : times_radix<C::kRadix>(codes) + next;
    }
    return codes;
  }

  // Keeps the errors of the quad at place i of the tile, or, rotated, what it decodes to.
  static THINWIRE_TEAM I encode_quad(const EncodeArgs& a, const Tile<C>& tile, const Scale& scale,
                                     unsigned i, float* tile_y) {
    const Quad y = get(tile_y, i);
    const bool coded = scale.value.v > 0.0f;
    I codes[kQuad];
    Quad decoded;
    THINWIRE_UNROLL
    for (unsigned j = 0; j < kQuad; ++j) {
      const I index = I::splat(static_cast<std::uint32_t>(tile.at + i + j));
      const I found = block_code<C, C::kStochastic>(y.v[j], scale.inverse, index, a.key),
              code = coded ? found : I::splat(0);
      decoded.v[j] = C::template dequantise<F>(code, decoding_scale<C>(scale.value, tile.block));
      codes[j] = C::to_wire(code);
    }
    if constexpr (C::kRotate)
      put(tile_y, i, decoded);
    else
      keep(a, tile.at + i, error(scale.value, y, decoded));
    return packed<C>(codes[0], codes[1], codes[2], codes[3]);
  }

  // What the scale of a block that is not coded leaves: all of it, or nothing of what is not
  // finite.
  static THINWIRE_TEAM Quad error(F scale, const Quad& y, const Quad& decoded) {
    return quad_of([&](unsigned j) {
      const F difference = y.v[j] - decoded.v[j], rest = scale.v == 0.0f ? y.v[j] : F::splat(0.0f);
      return scale.v > 0.0f ? difference : rest;
    });
  }

  // The errors of rotated blocks, decoded and transformed back.
  template <class Team, class Each>
  static THINWIRE_TEAM void write_errors(const Team& team, const EncodeArgs& a, const Tile<C>& tile,
                                         const Each& values, const float* decoded) {
    for (unsigned done = 0; done < tile.padded(); done += Quads<1>::kSpan) {
      const auto place = [=](unsigned lane) { return done + Quads<1>::place(0, lane); };
      auto scale = team.gather(values, [&](unsigned lane) { return tile.block_of(place(lane)); });
      team.lanes([&](unsigned lane) {
        const unsigned i = place(lane);
        if (tile.at + i >= tile.end)
          return;
        const Quad y = lane::values<1, false>(a, tile.at + done, tile.end, lane).q[0];
        keep(a, tile.at + i,
             error(F::splat(team.own(scale, lane)), y, flipped(get(decoded, i), i % tile.block)));
      });
    }
  }

  template <class Team, class Word>
  static THINWIRE_TEAM void write_word(const Team& team, const Tile<C>& tile, std::uint32_t* words,
                                       unsigned first, Word word) {
    if constexpr (C::kRadix == 2) { // eight lanes' codes make a word
      constexpr unsigned kShare = 8;
      word = team.lanes(
          [&](unsigned lane) { return team.own(word, lane) << kQuad * (lane % kShare); });
      auto whole =
          combined(team, word, kShare, [](std::uint32_t a, std::uint32_t b) { return a | b; });
      team.lanes([&](unsigned lane) {
        if (lane % kShare == 0 && first + lane < tile.words())
          words[(first + lane) / kShare] = team.own(whole, lane);
      });
    } else {
      team.lanes([&](unsigned lane) {
        if (first + lane < tile.words())
          words[first + lane] = team.own(word, lane);
      });
    }
  }
};

// `S` is Frames or OneFrame.
template <BlockCodec C, class S = Frames> struct DecodeBlock {
  S frames;

  static THINWIRE_HD std::size_t units(const DecodeArgs& a) {
    return ceil_div(a.n, Tile<C>::values(a.spec.block));
  }

  static THINWIRE_HD std::size_t scratch(const DecodeArgs& a) {
    return C::kRotate ? Tile<C>::values(a.spec.block) : 0;
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<DecodeArgs>& item, std::size_t unit,
                                float* scratch) const {
    const DecodeArgs& a = item.args;
    const Tile<C> tile(a.n, a.spec.block, unit);
    if constexpr (C::kRotate) {
      for (unsigned f = 0; f < frames.count(); ++f) {
        const std::uint8_t* payload = frames.payload(a.payload, f);
        decode_tile(team, tile, payload, scratch);
        transform_back(team, tile, scratch);
        deliver_tile(team, a, f, tile, payload, scratch);
      }
    } else {
      team.lanes([&](unsigned lane) {
        deliver<kQuadsAtOnce>(
            a, frames, tile.at, tile.end, lane,
            [&]<unsigned K, bool kWhole>(std::size_t from) { return Reader<K>(tile, from, lane); });
      });
    }
  }

private:
  static constexpr unsigned kQuadsAtOnce = 4;

  template <class Team>
  static THINWIRE_TEAM void decode_tile(const Team& team, const Tile<C>& tile,
                                        const std::uint8_t* payload, float* v) {
    team.lanes([&](unsigned lane) {
      for (unsigned done = 0; done < tile.padded(); done += Quads<1>::kSpan)
        if (const unsigned i = done + Quads<1>::place(0, lane); i < tile.padded())
          put(v, i, Reader<1>(tile, tile.at + done, lane)(payload).q[0]);
    });
  }

  // Stores or adds a tile that is transformed back. A block of zeros is not flipped, which would
  // change their sign.
  template <class Team>
  static THINWIRE_TEAM void deliver_tile(const Team& team, const DecodeArgs& a, unsigned frame,
                                         const Tile<C>& tile, const std::uint8_t* payload,
                                         const float* v) {
    each(team, ceil_div(tile.end - tile.at, kQuad), [&](std::size_t number) {
      const auto place = static_cast<unsigned>(kQuad * number);
      const std::size_t i = tile.at + place;
      Quad q = get(v, place);
      if (load(payload + place_of(tile, i).scale, DType::bf16, 0).v != 0.0f)
        q = flipped(q, place % tile.block);
      with_dtype(a.dtype, [&]<DType D>() {
        const bool added = a.accumulate || frame != 0;
        const Quad before = added ? read<D, false>(a.out, i, tile.end) : Quad{};
        write_sum<D, false>(a, i, tile.end, sum_after<D>(a, frame, before, q));
      });
    });
  }

  // Where the codes of a quad stand in a payload.
  struct Place {
    std::size_t scale, word; // offsets of them
    unsigned digit;          // which of the word's; for a radix of 2 the quad's first bit
  };

  // Past the end the last quad's, so that nothing has to be asked before reading.
  static THINWIRE_TEAM Place place_of(const Tile<C>& tile, std::size_t value) {
    const std::size_t last = (C::kRotate ? tile.at + tile.padded() : tile.end) - 1;
    const auto i = static_cast<unsigned>(smaller(value, last) - tile.at) / kQuad * kQuad;
    const unsigned block = tile.block_of(i), in_block = i - block * tile.block;
    const std::size_t codes =
        tile.sections.codes + (tile.first_block + block) * code_bytes(tile.block, C::kRadix);
    const std::size_t scale = 2 * (tile.first_block + block);
    if constexpr (C::kRadix == 2) {
      return {scale, codes + in_block / 32 * 4, in_block % 32};
    } else {
      const unsigned digit = tile.digit_of(in_block);
      return {scale, codes + in_block - digit * tile.part(), digit};
    }
  }

  // Decodes a lane's quads out of payloads.
  template <unsigned K> struct Reader {
    THINWIRE_TEAM Reader(const Tile<C>& tile, std::size_t at, unsigned lane) : block(tile.block) {
      THINWIRE_UNROLL
      for (unsigned k = 0; k < K; ++k)
        places[k] = place_of(tile, at + Quads<K>::place(k, lane));
    }

    THINWIRE_TEAM Quads<K> operator()(const std::uint8_t* payload) const {
      std::uint32_t words[K];
      F scales[K];
      THINWIRE_UNROLL
      for (unsigned k = 0; k < K; ++k) {
        words[k] = read_words<1>(payload + places[k].word).w[0];
        scales[k] = load(payload + places[k].scale, DType::bf16, 0);
      }
      Quads<K> decoded;
      THINWIRE_UNROLL
      for (unsigned k = 0; k < K; ++k) {
        const F finite = is_finite(scales[k]) ? scales[k] : F::splat(bits_float(kFp32Nan));
        const F scale = decoding_scale<C>(finite, block);
        decoded.q[k] = quad_of([&](unsigned j) {
          const I code = C::from_wire(code_of(words[k], places[k].digit, j));
          return C::template dequantise<F>(code, scale);
        });
      }
      return decoded;
    }

    Place places[K];
    unsigned block;
  };

  static THINWIRE_TEAM I code_of(std::uint32_t word, unsigned digit, unsigned j) {
    if constexpr (C::kRadix == 2) {
      return I::splat((word >> (digit + j)) & 1u);
    } else if constexpr (C::kRadix == 3) {
      I rest = I::splat((word >> 8 * j) & 0xffu);
      for (; digit > 0; --digit)
        rest = over_radix<C::kRadix>(rest);
      return lowest_digit<C::kRadix>(rest);
    } else {
      constexpr unsigned kBits = 8 / Tile<C>::kDigits;
      return lowest_digit<C::kRadix>(I::splat(word >> (8 * j + kBits * digit)));
    }
  }
};

} // namespace thinwire::lane
