// Kernels of every CastCodec. Values stay in registers: each is read once and written once.
//
// fp32 in and out, with a residual, raw / 16 bit: 12 + 4 / 12 + 2 bytes and some 25 instructions a
// value; decoding from p frames 4 + 4 p / 4 + 2 p bytes, and some 5 instructions a frame.
#pragma once

#include "dispatch/warp_kernel.hpp"

namespace thinwire::lane {

inline constexpr unsigned kCastQuads = 4; // of a lane
inline constexpr std::size_t kCastUnit = Quads<kCastQuads>::kSpan;

template <CastCodec C> struct EncodeCast : NoScratch {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return ceil_div(a.n, kCastUnit); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float*) const {
    const EncodeArgs& a = item.args;
    const std::size_t at = unit * kCastUnit;
    const auto spoiled = team.lanes([&](unsigned lane) { return encode(a, at, lane); });
    const std::uint32_t all = total(team, spoiled);
    once(team, [&] {
      if (all != 0)
        team.add(a.nonfinite, std::uint64_t{all});
    });
    const std::size_t bytes = a.n * element_bytes(C::kElement);
    if (at + kCastUnit >= a.n)
      fill_zero(team, a.payload + bytes, a.payload + align16(bytes));
  }

private:
  // A lane's values. Returns how many were coded as not finite.
  static THINWIRE_TEAM std::uint32_t encode(const EncodeArgs& a, std::size_t at, unsigned lane) {
    const std::size_t end = smaller(a.n, at + kCastUnit);
    std::uint32_t spoiled = 0;
    each_quad<kCastQuads>(a, at, end, end, lane, [&](std::size_t i, const Quad& y) {
      const Quad coded = quad_of([&](unsigned j) { return canonical(y.v[j]); });
      const Quad error = quad_of([&](unsigned j) {
        const F decoded = stored<C::kElement>(coded.v[j]);
        spoiled += i + j < end && !is_finite(decoded);
        return is_finite(decoded) ? y.v[j] - decoded : F::splat(0.0f);
      });
      write<C::kElement, false>(a.payload, i, end, coded);
      keep(a, i, error);
    });
    return spoiled;
  }
};

template <CastCodec C> struct DecodeCast : NoScratch {
  Frames frames;

  static THINWIRE_HD std::size_t units(const DecodeArgs& a) { return ceil_div(a.n, kCastUnit); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<DecodeArgs>& item, std::size_t unit,
                                float*) const {
    const DecodeArgs& a = item.args;
    const std::size_t at = unit * kCastUnit, end = smaller(a.n, at + kCastUnit);
    team.lanes([&](unsigned lane) {
      deliver<kCastQuads>(a, frames, at, end, lane, [&]<unsigned K, bool kWhole>(std::size_t from) {
        return [=](const std::uint8_t* payload) {
          return read_quads<K, C::kElement, kWhole>(payload, from, end, lane);
        };
      });
    });
  }
};

} // namespace thinwire::lane
