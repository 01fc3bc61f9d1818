// Kernels that decode topk, in the order in which they run: TallyCounts, ReadGroups. From p frames
// of an fp32 tensor they move 4 bytes a value and the payloads (and 4 more to accumulate); some 6
// operations and 6 a frame.
#pragma once

#include "dispatch/warp_scales.hpp"
#include "dispatch/warp_topk_threshold.hpp"

namespace thinwire::lane {

// How many entries each group of each payload has, made ordinals.
struct TallyCounts : NoScratch {
  Frames frames;

  std::size_t units(const DecodeArgs& a) const { return frames.count() * topk_spans(a.n); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<DecodeArgs>& item, std::size_t unit,
                                float*) const {
    const DecodeArgs& a = item.args;
    const std::size_t spans = topk_spans(a.n), span = unit % spans;
    const auto frame = static_cast<unsigned>(unit / spans);
    const std::uint8_t* counts = frames.payload(a.payload, frame);
    const TopKOrdinals ordinals = topk_ordinals(item.work + frame * topk_work_bytes(a.n), a.n);
    const std::size_t at = span * kSpan, rows = ceil_div(a.n, TopK::kRow),
                      groups = smaller(kSpan, ordinals.groups - at);
    each(team, groups, [&](std::size_t i) {
      std::uint32_t entries = 0;
      for (std::size_t row = (at + i) * kGroupRows; row < smaller((at + i + 1) * kGroupRows, rows);
           ++row)
        entries += counts[row];
      ordinals.of_groups[at + i] = entries;
    });
    const std::uint32_t all = exclusive_sums(team, ordinals.of_groups + at, groups);
    once(team, [&] { ordinals.of_spans[span] = all; });
  }
};

// One unit is one group. For each frame it is put together in the scratch, and added to the sum
// behind it.
template <TopKValues V> struct ReadGroups {
  Frames frames;

  static THINWIRE_HD std::size_t units(const DecodeArgs& a) { return topk_groups(a.n); }
  static THINWIRE_HD std::size_t scratch(const DecodeArgs&) { return 2 * TopK::kGroup; }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<DecodeArgs>& item, std::size_t group,
                                float* decoded) const {
    const DecodeArgs& a = item.args;
    const std::size_t at = group * TopK::kGroup, end = smaller(a.n, at + TopK::kGroup);
    float* sum = decoded + TopK::kGroup;
    with_dtype(a.dtype, [&]<DType D>() {
      if (a.accumulate)
        read_sum<D>(team, a, at, end, sum);
      for (unsigned f = 0; f < frames.count(); ++f) {
        const TopKOrdinals ordinals = topk_ordinals(item.work + f * topk_work_bytes(a.n), a.n);
        decode(team, a, frames.payload(a.payload, f), group,
               entries_before(team, ordinals, group) + ordinals.of_groups[group], decoded);
        team.lanes([&](unsigned lane) {
          for (unsigned i = kQuad * lane; i < TopK::kGroup; i += kQuad * kWarp)
            put(sum, i, sum_after<D>(a, f, get(sum, i), get(decoded, i)));
        });
      }
      team.lanes([&](unsigned lane) {
        for (unsigned i = kQuad * lane; i < end - at; i += kQuad * kWarp)
          write_sum<D, false>(a, at + i, end, get(sum, i));
      });
    });
  }

private:
  template <DType D, class Team>
  static THINWIRE_TEAM void read_sum(const Team& team, const DecodeArgs& a, std::size_t at,
                                     std::size_t end, float* sum) {
    team.lanes([&](unsigned lane) {
      by_quads<4>(at, end, end, is_aligned(a.out, D),
                  [&]<unsigned K, bool kWhole>(std::size_t from) {
                    const auto before = read_quads<K, D, kWhole>(a.out, from, end, lane);
                    const auto first = static_cast<unsigned>(from - at);
                    THINWIRE_UNROLL
                    for (unsigned k = 0; k < K; ++k)
                      put(sum, first + before.place(k, lane), before.q[k]);
                  });
    });
  }

  template <class Team>
  static THINWIRE_TEAM void decode(const Team& team, const DecodeArgs& a,
                                   const std::uint8_t* payload, std::size_t group,
                                   std::size_t ordinal, float* decoded) {
    const TopKSections s = topk_sections(a.n, a.spec.density, V);
    const float scale =
        from_bf16(reinterpret_cast<const std::uint16_t*>(payload + s.scales)[group]);
    const F elsewhere = F::splat(is_finite({scale}) ? 0.0f : bits_float(kFp32Nan));
    team.lanes([&](unsigned lane) {
      for (unsigned i = kQuad * lane; i < TopK::kGroup; i += kQuad * kWarp)
        put(decoded, i, quad_of([=](unsigned) { return elsewhere; }));
    });
    const std::size_t rows = smaller(kGroupRows, s.rows - group * kGroupRows);
    for (std::size_t row = 0; row < rows && is_finite({scale}); ++row) {
      const std::size_t entries = payload[group * kGroupRows + row];
      each(team, entries, [&](std::size_t i) {
        const std::size_t offset = payload[s.offsets + ordinal + i];
        decoded[row * TopK::kRow + offset] =
            topk_decoded<V>(read_code(payload + s.values, ordinal + i), scale);
      });
      ordinal += entries;
    }
  }

  static THINWIRE_TEAM std::uint16_t read_code(const std::uint8_t* codes, std::size_t ordinal) {
    if constexpr (V == TopKValues::fp16)
      return reinterpret_cast<const std::uint16_t*>(codes)[ordinal];
    else if constexpr (V == TopKValues::int8)
      return codes[ordinal];
    else
      return (codes[ordinal / 8] >> ordinal % 8) & 1;
  }
};

} // namespace thinwire::lane
