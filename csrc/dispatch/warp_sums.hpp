// What a sum begins with, and the search for gradients that are zero.
#pragma once

#include "dispatch/frame_steps.hpp"
#include "dispatch/frame_work.hpp"
#include "dispatch/stretch.hpp"
#include "dispatch/warp_cast.hpp"
#include "dispatch/warp_launch.hpp"

#include <span>

namespace thinwire::lane {

// y of a segment, in fp32, to `payload`.
struct FoldValues : NoScratch {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return ceil_div(a.n, kCastUnit); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float*) const {
    const EncodeArgs& a = item.args;
    const std::size_t at = unit * kCastUnit, end = smaller(a.n, at + kCastUnit);
    team.lanes([&](unsigned lane) {
      each_quad<kCastQuads>(a, at, end, end, lane, [&](std::size_t i, const Quad& y) {
        write<DType::fp32, false>(a.payload, i, end, y);
      });
    });
  }
};

// Sets the lowest bit of the integer at `payload` where y has a value that is not zero.
struct FindNonzero : NoScratch {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return ceil_div(a.n, kCastUnit); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float*) const {
    const EncodeArgs& a = item.args;
    const std::size_t at = unit * kCastUnit, end = smaller(a.n, at + kCastUnit);
    const auto found = team.lanes([&](unsigned lane) {
      std::uint32_t any = 0;
      each_quad<kCastQuads>(a, at, end, end, lane, [&](std::size_t, const Quad& y) {
        any |= magnitude(y.v[0]) | magnitude(y.v[1]) | magnitude(y.v[2]) | magnitude(y.v[3]);
      });
      return std::uint32_t{any != 0};
    });
    const std::uint32_t lanes = total(team, found);
    once(team, [&] {
      if (lanes != 0)
        team.set_bits(reinterpret_cast<std::uint32_t*>(a.payload), 1);
    });
  }
};

// Working memory of either, for so many segments or stretches.
inline std::size_t sum_work_bytes(std::size_t segments) {
  return table_bytes<EncodeArgs>(segments);
}

inline std::size_t sum_work_bytes(std::span<const Folding> all) {
  return sum_work_bytes(segments_in(all));
}

template <class Launcher>
void fold(Launcher& launcher, std::span<const Folding> all, std::byte* work) {
  std::vector<Item<EncodeArgs>> items;
  for (const auto& [layout, values, out] : all)
    for (std::size_t i = 0; i < layout->segments().size(); ++i) {
      EncodeArgs args = encode_args(*layout, i, values, /*key=*/0, /*step=*/0, nullptr);
      args.payload = reinterpret_cast<std::uint8_t*>(out + layout->segments()[i].first);
      items.push_back({args, nullptr});
    }
  Runner<Launcher>(launcher, work).run(FoldValues{}, items);
}

template <class Launcher>
void find_nonzero(Launcher& launcher, std::span<const Stretch> stretches, DType dtype,
                  std::uint32_t* found, std::byte* work) {
  std::vector<Item<EncodeArgs>> items;
  for (std::size_t i = 0; i < stretches.size(); ++i) {
    EncodeArgs args = {};
    args.x = stretches[i].values;
    args.dtype = dtype;
    args.n = stretches[i].count;
    args.scale = 1;
    args.payload = reinterpret_cast<std::uint8_t*>(found + i);
    items.push_back({args, nullptr});
  }
  Runner<Launcher>(launcher, work).run(FindNonzero{}, items);
}

} // namespace thinwire::lane
