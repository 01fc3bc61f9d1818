// Kernels of every CastCodec and every BlockCodec: what a warp does for one unit of work.
//
// A kernel is a struct with
//   kScratch                       fast memory of a warp, in floats
//   units(args)                    how many units of work a segment has
//   operator()(team, item, unit, scratch)
#pragma once

#include "dispatch/warp_values.hpp"

namespace thinwire::lane {

// A segment to encode or decode, and its working memory (only topk has any).
template <class Args> struct Item {
  Args args;
  std::byte* work;
};

struct NoScratch {
  static constexpr std::size_t kScratch = 0;
};

inline constexpr std::size_t kCastUnit = 1024; // values

template <CastCodec C> struct EncodeCast : NoScratch {
  std::uint64_t* nonfinite;

  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return ceil_div(a.n, kCastUnit); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float*) const {
    const EncodeArgs& a = item.args;
    const std::size_t at = unit * kCastUnit, count = smaller(kCastUnit, a.n - at);
    const auto spoiled = team.lanes([&](unsigned lane) {
      std::uint32_t found = 0;
      for (std::size_t i = at + lane; i < at + count; i += kWarp)
        found += !encode_value(a, i);
      return found;
    });
    const std::uint32_t all = total(team, spoiled), bytes = element_bytes(C::kElement);
    once(team, [&] {
      if (all != 0)
        team.add(nonfinite, all);
    });
    if (at + count == a.n)
      fill_zero(team, a.payload + a.n * bytes, a.payload + align16(a.n * bytes));
  }

private:
  // Returns whether what was coded is finite.
  static THINWIRE_TEAM bool encode_value(const EncodeArgs& a, std::size_t i) {
    const F v = value(a, i);
    store(a.payload, C::kElement, i, canonical(v));
    const F decoded = load(a.payload, C::kElement, i);
    keep(a, i, is_finite(decoded) ? v - decoded : F::splat(0.0f));
    return is_finite(decoded);
  }
};

template <CastCodec C> struct DecodeCast : NoScratch {
  static THINWIRE_HD std::size_t units(const DecodeArgs& a) { return ceil_div(a.n, kCastUnit); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<DecodeArgs>& item, std::size_t unit,
                                float*) const {
    const DecodeArgs& a = item.args;
    const std::size_t at = unit * kCastUnit;
    each(team, smaller(kCastUnit, a.n - at),
         [&](std::size_t i) { deliver(a, at + i, load(a.payload, C::kElement, at + i)); });
  }
};

// One unit is one block.
template <BlockCodec C, bool kStochastic> struct EncodeBlock : NoScratch {
  std::uint64_t* nonfinite;

  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return ceil_div(a.n, a.spec.block); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float*) const {
    const EncodeArgs& a = item.args;
    const std::size_t block = a.spec.block, at = unit * block, count = smaller(block, a.n - at);
    const BlockSections sections = block_sections(a.n, block, C::kBits);
    const BlockScale scale = block_scale(base(team, a, at, count), C::kDivisor);
    std::uint8_t* codes = a.payload + sections.codes + unit * (block * C::kBits / 8);
    write_codes(team, block, codes,
                [&](std::size_t i) { return encode_value(a, scale, at, count, i); });
    once(team, [&] {
      reinterpret_cast<std::uint16_t*>(a.payload)[unit] = scale.bits;
      if (is_nan_scale(scale.bits))
        team.add(nonfinite, 1);
    });
    if (unit + 1 == sections.blocks) {
      fill_zero(team, a.payload + 2 * sections.blocks, a.payload + sections.codes);
      fill_zero(team, codes + block * C::kBits / 8, a.payload + sections.bytes);
    }
  }

private:
  template <class Team>
  static THINWIRE_TEAM float base(const Team& team, const EncodeArgs& a, std::size_t at,
                                  std::size_t count) {
    if constexpr (C::kBase == ScaleBase::greatest)
      return bits_float(
          greatest(team, count, [&](std::size_t i) { return magnitude(value(a, at + i)); }));
    else
      return sum16(team, count,
                   [&](std::size_t i) { return F::splat(bits_float(magnitude(value(a, at + i)))); })
                 .v /
             static_cast<float>(count);
  }

  // The wire code of the i-th value of the block that starts at `at`, its residual stored.
  static THINWIRE_TEAM I encode_value(const EncodeArgs& a, const BlockScale& s, std::size_t at,
                                      std::size_t count, std::size_t i) {
    const F y = i < count ? value(a, at + i) : F::splat(0.0f);
    I code = I::splat(0);
    F error = is_nan_scale(s.bits) ? F::splat(0.0f) : y;
    if (s.coded) {
      const I index = I::splat(static_cast<std::uint32_t>(at + i));
      code = block_code<C, kStochastic>(y, F::splat(s.inverse), index, a.key);
      error = y - C::template dequantise<F>(code, F::splat(s.value));
    }
    if (i < count)
      keep(a, at + i, error);
    return C::to_wire(code);
  }

  template <class Team, class Fn>
  static THINWIRE_TEAM void write_codes(const Team& team, std::size_t block, std::uint8_t* codes,
                                        Fn code) {
    if constexpr (C::kBits == 8) {
      each(team, block, [&](std::size_t i) { codes[i] = static_cast<std::uint8_t>(code(i).v); });
    } else if constexpr (C::kBits == 4) {
      const std::size_t half = block / 2;
      each(team, half, [&](std::size_t i) {
        codes[i] = static_cast<std::uint8_t>((code(i) | shl<4>(code(i + half))).v);
      });
    } else {
      for (std::size_t i = 0; i < block; i += kWarp) {
        const std::uint32_t mask =
            team.ballot([&](unsigned lane) { return code(i + lane).v != 0; });
        once(team, [&] { reinterpret_cast<std::uint32_t*>(codes)[i / kWarp] = mask; });
      }
    }
  }
};

// One unit is one block.
template <BlockCodec C> struct DecodeBlock : NoScratch {
  static THINWIRE_HD std::size_t units(const DecodeArgs& a) { return ceil_div(a.n, a.spec.block); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<DecodeArgs>& item, std::size_t unit,
                                float*) const {
    const DecodeArgs& a = item.args;
    const std::size_t block = a.spec.block, at = unit * block;
    const std::uint8_t* codes =
        a.payload + block_sections(a.n, block, C::kBits).codes + unit * (block * C::kBits / 8);
    const F scale = {from_bf16(reinterpret_cast<const std::uint16_t*>(a.payload)[unit])};
    const bool finite = is_finite(scale);
    each(team, smaller(block, a.n - at), [&](std::size_t i) {
      const I code = C::from_wire(I::splat(read_code(codes, block, i)));
      deliver(a, at + i,
              finite ? C::template dequantise<F>(code, scale) : F::splat(bits_float(kFp32Nan)));
    });
  }

private:
  static THINWIRE_TEAM std::uint32_t read_code(const std::uint8_t* codes, std::size_t block,
                                               std::size_t i) {
    if constexpr (C::kBits == 8) {
      return codes[i];
    } else if constexpr (C::kBits == 4) {
      const std::size_t half = block / 2;
      return i < half ? codes[i] & 15u : std::uint32_t{codes[i - half]} >> 4;
    } else {
      return (std::uint32_t{codes[i / 8]} >> i % 8) & 1u;
    }
  }
};

} // namespace thinwire::lane
