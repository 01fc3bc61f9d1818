// Kernels of topk, in the order in which they run.
//
// Encoding: ClearTopK, FindThreshold twice, TallyEntries, WriteGroups. The last two read every
// value. Of an fp32 tensor with a residual that is 2 * (4 + 4) bytes read and 4 + the payload
// (0.04 of 3 % of signs) written, 20.04 a value, and some 15 + 30 instructions; what must move is
// 12 and the payload. Decoding: TallyCounts, ReadGroups. From p frames 4 bytes a value and their
// payloads (and 4 more to accumulate); some 6 instructions and 6 a frame.
#pragma once

#include "dispatch/warp_scales.hpp"
#include "dispatch/warp_topk_threshold.hpp"

namespace thinwire::lane {

// Where the entries of a group start.
template <class Team>
THINWIRE_TEAM std::size_t first_ordinal(const Team& team, const TopKOrdinals& ordinals,
                                        std::size_t group) {
  const std::size_t span = group / kSpan;
  const auto before = team.lanes([&](unsigned lane) {
    std::uint64_t sum = 0;
    for (std::size_t i = lane; i < span; i += kWarp)
      sum += ordinals.of_spans[i];
    return sum;
  });
  return total(team, before) + ordinals.of_groups[group];
}

// How many entries each group would send if nothing were sent before it; by the last group of a
// span, made ordinals.
struct TallyEntries : NoScratch {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return topk_groups(a.n); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t group,
                                float*) const {
    const std::size_t span = group / kSpan;
    const TopKOrdinals ordinals = topk_ordinals(item.work, item.args.n);
    const std::uint32_t entries = count_entries(team, item.args, topk_work(item.work).bound, group);
    once(team, [&] { ordinals.of_groups[group] = entries; });
    const std::size_t groups = smaller(kSpan, ordinals.groups - span * kSpan);
    if (!team.last_of(ordinals.done + span, groups))
      return;
    const std::uint32_t all = exclusive_sums(team, ordinals.of_groups + span * kSpan, groups);
    once(team, [&] { ordinals.of_spans[span] = all; });
  }

private:
  template <class Team>
  static THINWIRE_TEAM std::uint32_t count_entries(const Team& team, const EncodeArgs& a,
                                                   std::uint32_t bound, std::size_t group) {
    constexpr std::size_t kRows = 2; // at a time: a lane counts each in 16 bits
    std::uint32_t entries = 0;
    for (std::size_t row = group * kGroupRows; row < (group + 1) * kGroupRows; row += kRows) {
      const std::size_t at = row * TopK::kRow, end = smaller(a.n, at + kRows * TopK::kRow);
      const auto counts = team.lanes([&](unsigned lane) {
        std::uint32_t found = 0;
        each_quad<kRows * TopK::kRow / Quads<1>::kSpan>(
            a, at, end, end, lane, [&](std::size_t i, const Quad& y) {
              THINWIRE_UNROLL
              for (unsigned j = 0; j < kQuad; ++j)
                found += magnitude(y.v[j]) >= bound ? 1u << 16 * ((i - at) / TopK::kRow) : 0u;
            });
        return found;
      });
      const std::uint32_t all = total(team, counts);
      entries += static_cast<std::uint32_t>(smaller(all & 0xffff, TopK::kMostInRow) +
                                            smaller(all >> 16, TopK::kMostInRow));
    }
    return entries;
  }
};

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

// Writes the entries of a group, and its residual. y lies in the scratch, followed by the places of
// the entries in it.
template <TopKValues V> struct WriteGroups {
  std::uint64_t* nonfinite;

  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return topk_groups(a.n); }
  static THINWIRE_HD std::size_t scratch(const EncodeArgs&) {
    return TopK::kGroup + TopK::kGroup * sizeof(std::uint16_t) / sizeof(float);
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t group,
                                float* y) const {
    const EncodeArgs& a = item.args;
    const TopKSections s = topk_sections(a.n, a.spec.density, V);
    auto* places = reinterpret_cast<std::uint16_t*>(y + TopK::kGroup);
    const std::size_t first =
        smaller(s.capacity, first_ordinal(team, topk_ordinals(item.work, a.n), group));
    const std::uint32_t most = fill(team, a, group, y);
    const std::size_t entries =
        select(team, a, topk_work(item.work).bound, group, s.capacity - first, y, places);
    const BlockScale scale = group_scale(team, most, entries, y, places);
    const bool spoiled = is_nan_scale(scale.bits);
    write_entries(team, a, s, first, entries, scale, y, places);
    team.lanes([&](unsigned lane) {
      for (unsigned i = kQuad * lane; i < TopK::kGroup; i += kQuad * kWarp)
        keep(a, group * TopK::kGroup + i, spoiled ? Quad{} : get(y, i));
    });
    once(team, [&] {
      reinterpret_cast<std::uint16_t*>(a.payload + s.scales)[group] = scale.bits;
      if (spoiled)
        team.add(nonfinite, 1);
    });
  }

private:
  // Returns the greatest magnitude bits.
  template <class Team>
  static THINWIRE_TEAM std::uint32_t fill(const Team& team, const EncodeArgs& a, std::size_t group,
                                          float* y) {
    const std::size_t at = group * TopK::kGroup, end = smaller(a.n, at + TopK::kGroup);
    const auto most = team.lanes([&](unsigned lane) {
      std::uint32_t found = 0;
      each_quad<4>(a, at, end, at + TopK::kGroup, lane, [&](std::size_t i, const Quad& q) {
        put(y, static_cast<unsigned>(i - at), q);
        THINWIRE_UNROLL
        for (unsigned j = 0; j < kQuad; ++j)
          found = magnitude(q.v[j]) > found ? magnitude(q.v[j]) : found;
      });
      return found;
    });
    return greatest(team, most);
  }

  // Finds the places of the entries, at most `room`, and writes the counts of the rows. Returns
  // how many entries there are.
  template <class Team>
  static THINWIRE_TEAM std::size_t select(const Team& team, const EncodeArgs& a,
                                          std::uint32_t bound, std::size_t group, std::size_t room,
                                          const float* y, std::uint16_t* places) {
    std::size_t entries = 0;
    for (std::size_t row = 0; row < kGroupRows && group * TopK::kGroup + row * TopK::kRow < a.n;
         ++row) {
      const std::size_t most = smaller(TopK::kMostInRow, room - entries);
      std::size_t found = 0;
      for (std::size_t at = row * TopK::kRow; at < (row + 1) * TopK::kRow; at += kWarp) {
        const std::uint32_t mask =
            team.ballot([&](unsigned lane) { return magnitude(F::splat(y[at + lane])) >= bound; });
        team.lanes([&](unsigned lane) {
          const std::size_t before = found + count_bits(mask & ((1u << lane) - 1));
          if ((mask >> lane & 1u) != 0 && before < most)
            places[entries + before] = static_cast<std::uint16_t>(at + lane);
        });
        found += count_bits(mask);
      }
      const std::size_t sent = smaller(found, most);
      once(team, [&] { a.payload[group * kGroupRows + row] = static_cast<std::uint8_t>(sent); });
      entries += sent;
    }
    return entries;
  }

  template <class Team>
  static THINWIRE_TEAM BlockScale group_scale(const Team& team, std::uint32_t most,
                                              std::size_t entries, const float* y,
                                              const std::uint16_t* places) {
    const auto size = [=](std::size_t i) { return magnitude(F::splat(y[places[i]])); };
    float base = 0;
    if (most >= kInfinityBits)
      base = bits_float(kFp32Nan);
    else if (entries != 0 && V == TopKValues::sign)
      base = sum16(team, entries, [=](std::size_t i) { return F::splat(bits_float(size(i))); }).v /
             static_cast<float>(entries);
    else
      base = bits_float(greatest(team, entries, size));
    return block_scale(base, TopK::divisor(V));
  }

  // Makes errors of the entries' values.
  template <class Team>
  static THINWIRE_TEAM void write_entries(const Team& team, const EncodeArgs& a,
                                          const TopKSections& s, std::size_t first,
                                          std::size_t entries, const BlockScale& scale, float* y,
                                          const std::uint16_t* places) {
    std::uint8_t* codes = a.payload + s.values;
    const std::size_t end = first + entries;
    for (std::size_t at = first / kWarp * kWarp; at < end; at += kWarp) { // whole words of bits
      const auto negative = team.lanes([&](unsigned lane) {
        const std::size_t ordinal = at + lane;
        if (ordinal < first || ordinal >= end)
          return false;
        const std::uint16_t place = places[ordinal - first];
        a.payload[s.offsets + ordinal] = static_cast<std::uint8_t>(place % TopK::kRow);
        if (!scale.coded)
          return false;
        const F v = F::splat(y[place]);
        const std::uint16_t code = code_of(v, F::splat(scale.inverse));
        y[place] = (v - F::splat(topk_decoded<V>(code, scale.value))).v;
        if constexpr (V == TopKValues::fp16)
          reinterpret_cast<std::uint16_t*>(codes)[ordinal] = code;
        else if constexpr (V == TopKValues::int8)
          codes[ordinal] = static_cast<std::uint8_t>(code);
        return code != 0;
      });
      if constexpr (V == TopKValues::sign) {
        const std::uint32_t mask =
            team.ballot([&](unsigned lane) { return team.own(negative, lane); });
        once(team, [&] {
          if (mask != 0)
            team.set_bits(reinterpret_cast<std::uint32_t*>(codes) + at / kWarp, mask);
        });
      }
    }
  }

  static THINWIRE_TEAM std::uint16_t code_of(F v, F inverse) {
    if constexpr (V == TopKValues::fp16)
      return to_fp16((v * inverse).v);
    else if constexpr (V == TopKValues::int8)
      return static_cast<std::uint16_t>(Int8::to_wire(nearest_code<Int8>(v, inverse)).v);
    else
      return static_cast<std::uint16_t>(nearest_code<Sign1>(v, inverse).v);
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
        decode(team, a, frames.payload(a.payload, f), group, first_ordinal(team, ordinals, group),
               decoded);
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
