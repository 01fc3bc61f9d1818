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
    const BlockSections sections = block_sections(a.n, block, C::kRadix);
    const BlockScale scale = block_scale(base(team, a, at, count), C::kDivisor);
    std::uint8_t* codes = a.payload + sections.codes + unit * code_bytes(block, C::kRadix);
    write_codes(team, block, codes,
                [&](std::size_t i) { return encode_value(a, scale, at, count, i); });
    once(team, [&] {
      reinterpret_cast<std::uint16_t*>(a.payload)[unit] = scale.bits;
      if (is_nan_scale(scale.bits))
        team.add(nonfinite, 1);
    });
    if (unit + 1 == sections.blocks) {
      fill_zero(team, a.payload + 2 * sections.blocks, a.payload + sections.codes);
      fill_zero(team, codes + code_bytes(block, C::kRadix), a.payload + sections.bytes);
    }
  }

private:
  template <class Team>
  static THINWIRE_TEAM float base(const Team& team, const EncodeArgs& a, std::size_t at,
                                  std::size_t count) {
    const auto y = [&](std::size_t i) { return value(a, at + i); };
    if constexpr (C::kBase == ScaleBase::greatest) {
      return bits_float(greatest(team, count, [&](std::size_t i) { return magnitude(y(i)); }));
    } else {
      const auto size = [&](std::size_t i) { return F::splat(bits_float(magnitude(y(i)))); };
      const MagnitudeSums all = {sum16(team, count, size).v, static_cast<float>(count)};
      if constexpr (C::kBase == ScaleBase::fitted)
        if (is_fitted(all))
          return fit<C>(all, sums_above(team, count, outer_bound<C>(all), y));
      return C::kBase == ScaleBase::mean ? mean(all) * a.gain : mean(all);
    }
  }

  // The magnitudes of y(0) .. y(count - 1) that are above a bound.
  template <class Team, class Fn>
  static THINWIRE_TEAM MagnitudeSums sums_above(const Team& team, std::size_t count, float bound,
                                                Fn y) {
    const auto counts = team.lanes([&](unsigned lane) {
      std::uint32_t found = 0;
      for (std::size_t i = lane; i < count; i += kWarp)
        found += exceeds(y(i), bound).v & 1;
      return found;
    });
    const F sum = sum16(team, count, [&](std::size_t i) {
      const F v = y(i);
      return magnitude_where(v, exceeds(v, bound));
    });
    return {sum.v, static_cast<float>(total(team, counts))};
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
    if constexpr (C::kRadix == 2) {
      for (std::size_t i = 0; i < block; i += kWarp) {
        const std::uint32_t mask =
            team.ballot([&](unsigned lane) { return code(i + lane).v != 0; });
        once(team, [&] { reinterpret_cast<std::uint32_t*>(codes)[i / kWarp] = mask; });
      }
    } else {
      constexpr std::size_t kDigits = codes_per_byte(C::kRadix);
      const std::size_t part = code_bytes(block, C::kRadix);
      each(team, part, [&](std::size_t i) {
        I byte = code(i + (kDigits - 1) * part);
        for (std::size_t digit = kDigits - 1; digit-- > 0;)
          byte = times_radix<C::kRadix>(byte) + code(i + digit * part);
        codes[i] = static_cast<std::uint8_t>(byte.v);
      });
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
    const std::uint8_t* codes = a.payload + block_sections(a.n, block, C::kRadix).codes +
                                unit * code_bytes(block, C::kRadix);
    const F scale = {from_bf16(reinterpret_cast<const std::uint16_t*>(a.payload)[unit])};
    const bool finite = is_finite(scale);
    each(team, smaller(block, a.n - at), [&](std::size_t i) {
      const I code = C::from_wire(read_code(codes, block, i));
      deliver(a, at + i,
              finite ? C::template dequantise<F>(code, scale) : F::splat(bits_float(kFp32Nan)));
    });
  }

private:
  static THINWIRE_TEAM I read_code(const std::uint8_t* codes, std::size_t block, std::size_t i) {
    if constexpr (C::kRadix == 2) {
      return I::splat((std::uint32_t{codes[i / 8]} >> i % 8) & 1u);
    } else {
      const std::size_t part = code_bytes(block, C::kRadix);
      unsigned below = 0; // digits of the byte below this one
      for (; i >= part; i -= part)
        ++below;
      I rest = I::splat(std::uint32_t{codes[i]});
      for (; below > 0; --below)
        rest = over_radix<C::kRadix>(rest);
      return lowest_digit<C::kRadix>(rest);
    }
  }
};

} // namespace thinwire::lane
