// Kernels of topk (see warp_blocks.hpp for what a kernel is), in the order in which they run.
//
// Encoding: clear, count and pick (twice: first the leading eleven bits of the threshold, then the
// next), tally how much each group has to send, turn that into each group's first ordinal, write.
// Decoding: tally, first ordinals, read.
#pragma once

#include "dispatch/warp_blocks.hpp"

namespace thinwire::lane {

inline constexpr std::size_t kSpan = 1024; // groups; ordinals count from the span's first entry
inline constexpr std::size_t kClearUnit = 4096; // bytes
inline constexpr std::size_t kGroupRows = TopK::kGroup / TopK::kRow;

// What the kernels hand on lies in the segment's working memory: this, then the ordinals.
struct TopKWork {
  std::uint32_t bins[2][TopK::kBins];
  std::uint64_t rank;   // of the threshold among those that share the bits found so far, from 1
  std::uint32_t prefix; // the threshold's leading bits
  std::uint32_t bound;  // the threshold
};

// For each span the number of entries before it, for each group the number since its span's start.
struct TopKOrdinals {
  std::size_t groups, spans;
  std::uint64_t *of_spans, *of_groups;

  THINWIRE_TEAM std::size_t first(std::size_t group) const {
    return of_spans[group / kSpan] + of_groups[group];
  }
};

THINWIRE_HD std::size_t topk_groups(std::size_t n) { return ceil_div(n, TopK::kGroup); }
THINWIRE_HD std::size_t topk_spans(std::size_t n) { return ceil_div(topk_groups(n), kSpan); }

THINWIRE_HD std::size_t topk_work_bytes(std::size_t n) {
  return align16(sizeof(TopKWork) + (topk_groups(n) + topk_spans(n)) * sizeof(std::uint64_t));
}

THINWIRE_TEAM TopKWork& topk_work(std::byte* work) { return *reinterpret_cast<TopKWork*>(work); }

THINWIRE_TEAM TopKOrdinals topk_ordinals(std::byte* work, std::size_t n) {
  auto* of_spans = reinterpret_cast<std::uint64_t*>(work + sizeof(TopKWork));
  return {topk_groups(n), topk_spans(n), of_spans, of_spans + topk_spans(n)};
}

// Zeroes the payload and the bins, 16 bytes at a time.
struct ClearTopK : NoScratch {
  static THINWIRE_HD std::size_t payload_bytes(const EncodeArgs& a) {
    return topk_sections(a.n, a.spec.density, a.spec.values).bytes;
  }
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) {
    return ceil_div(payload_bytes(a), kClearUnit) + ceil_div(sizeof(TopKWork), kClearUnit);
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float*) const {
    const std::size_t bytes = payload_bytes(item.args), payload_units = ceil_div(bytes, kClearUnit);
    if (unit < payload_units)
      clear(team, item.args.payload, bytes, unit);
    else
      clear(team, reinterpret_cast<std::uint8_t*>(item.work), sizeof(TopKWork),
            unit - payload_units);
  }

private:
  struct alignas(16) Zero {
    std::uint32_t words[4];
  };
  static_assert(sizeof(TopKWork) % sizeof(Zero) == 0);

  template <class Team>
  static THINWIRE_TEAM void clear(const Team& team, std::uint8_t* base, std::size_t bytes,
                                  std::size_t unit) {
    auto* from = reinterpret_cast<Zero*>(base + unit * kClearUnit);
    each(team, smaller(kClearUnit, bytes - unit * kClearUnit) / sizeof(Zero),
         [=](std::size_t i) { from[i] = Zero{}; });
  }
};

// Counts sampled magnitudes by eleven bits of theirs: the leading ones, or the next eleven of those
// that start with the prefix. One unit is one chunk of the sample.
template <int kLevel> struct CountMagnitudes : NoScratch {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) {
    return a.n == 0 ? 0 : topk_sample(a.n, a.spec.density, a.step).chunks;
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float*) const {
    const EncodeArgs& a = item.args;
    TopKWork& work = topk_work(item.work);
    const TopKSample sample = topk_sample(a.n, a.spec.density, a.step);
    const std::size_t at = (sample.phase + unit * sample.stride) * TopK::kSampleChunk;
    each(team, smaller(TopK::kSampleChunk, a.n - at), [&](std::size_t i) {
      const std::uint32_t size = magnitude(value(a, at + i)), leading = size >> TopK::kLeadingShift;
      if (kLevel == 0)
        team.add(&work.bins[0][leading], 1);
      else if (leading == work.prefix)
        team.add(&work.bins[1][(size / TopK::kThresholdStep) % TopK::kBins], 1);
    });
  }
};

// Finds the bin in which the threshold's rank falls, from the greatest bin down.
template <int kLevel> struct PickBin : NoScratch {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return a.n == 0 ? 0 : 1; }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t,
                                float*) const {
    const EncodeArgs& a = item.args;
    TopKWork& work = topk_work(item.work);
    const std::uint64_t rank =
        kLevel == 0 ? topk_sample(a.n, a.spec.density, a.step).rank : work.rank;
    std::uint64_t above = 0; // values in greater bins
    for (std::uint32_t end = TopK::kBins; end > 0 && above < rank; end -= kWarp) {
      const auto count = team.lanes(
          [&](unsigned lane) { return std::uint64_t{work.bins[kLevel][end - 1 - lane]}; });
      const auto sums = running_sums(team, count);
      team.lanes([&](unsigned lane) {
        const std::uint64_t through = above + team.own(sums, lane),
                            before = through - team.own(count, lane);
        if (before < rank && rank <= through)
          pick(work, end - 1 - lane, rank - before);
      });
      above += last(team, sums);
    }
  }

private:
  static THINWIRE_TEAM void pick(TopKWork& work, std::uint32_t bin, std::uint64_t rank_in_bin) {
    if constexpr (kLevel == 0) {
      work.prefix = bin;
      work.rank = rank_in_bin;
    } else {
      work.bound = topk_bound(work.prefix, bin);
    }
  }
};

// Visits the values of a group: visit(lane, i, y, ordinal) with the value's index in the segment
// and its ordinal among the group's entries, or kNotSent. At most `room` values become entries.
// After each row comes row_end(row, its entries). Returns the number of entries.
inline constexpr std::uint32_t kNotSent = ~std::uint32_t{0};

template <class Team, class Visit, class RowEnd>
THINWIRE_TEAM std::size_t walk_group(const Team& team, const EncodeArgs& a, std::uint32_t bound,
                                     std::size_t group, std::size_t room, Visit visit,
                                     RowEnd row_end) {
  std::size_t entries = 0;
  for (std::size_t row = group * kGroupRows;
       row < (group + 1) * kGroupRows && row * TopK::kRow < a.n; ++row) {
    const std::size_t end = smaller((row + 1) * TopK::kRow, a.n),
                      most = smaller(TopK::kMostInRow, room - entries);
    std::size_t selected = 0;
    for (std::size_t at = row * TopK::kRow; at < end; at += kWarp) {
      const auto y = team.lanes(
          [&](unsigned lane) { return at + lane < end ? value(a, at + lane) : F::splat(0.0f); });
      const std::uint32_t mask =
          team.ballot([&](unsigned lane) { return magnitude(team.own(y, lane)) >= bound; });
      team.lanes([&](unsigned lane) {
        const std::size_t before = selected + count_bits(mask & ((1u << lane) - 1));
        const bool sent = (mask >> lane & 1u) != 0 && before < most;
        if (at + lane < end)
          visit(lane, at + lane, team.own(y, lane),
                sent ? static_cast<std::uint32_t>(entries + before) : kNotSent);
      });
      selected += count_bits(mask);
    }
    const std::size_t sent = smaller(selected, most);
    row_end(row, sent);
    entries += sent;
  }
  return entries;
}

// How many entries each group would send if nothing were sent before it.
struct TallyEntries : NoScratch {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return topk_groups(a.n); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t group,
                                float*) const {
    const std::size_t entries = walk_group(
        team, item.args, topk_work(item.work).bound, group, TopK::kGroup, [](auto&&...) {},
        [](auto&&...) {});
    once(team, [&] { topk_ordinals(item.work, item.args.n).of_groups[group] = entries; });
  }
};

// How many entries each group of a payload has.
struct TallyCounts : NoScratch {
  static THINWIRE_HD std::size_t units(const DecodeArgs& a) { return topk_spans(a.n); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<DecodeArgs>& item, std::size_t span,
                                float*) const {
    const DecodeArgs& a = item.args;
    const TopKOrdinals ordinals = topk_ordinals(item.work, a.n);
    const std::size_t at = span * kSpan, rows = ceil_div(a.n, TopK::kRow);
    each(team, smaller(kSpan, ordinals.groups - at), [&](std::size_t i) {
      std::uint64_t entries = 0;
      for (std::size_t row = (at + i) * kGroupRows; row < smaller((at + i + 1) * kGroupRows, rows);
           ++row)
        entries += a.payload[row];
      ordinals.of_groups[at + i] = entries;
    });
  }
};

// Makes ordinals of the tallies, within each span.
struct SumGroups : NoScratch {
  template <class Args> static THINWIRE_HD std::size_t units(const Args& a) {
    return topk_spans(a.n);
  }

  template <class Team, class Args>
  THINWIRE_TEAM void operator()(const Team& team, const Item<Args>& item, std::size_t span,
                                float*) const {
    const TopKOrdinals ordinals = topk_ordinals(item.work, item.args.n);
    const std::size_t at = span * kSpan;
    const std::uint64_t all =
        exclusive_sums(team, ordinals.of_groups + at, smaller(kSpan, ordinals.groups - at));
    once(team, [&] { ordinals.of_spans[span] = all; });
  }
};

// And from span to span.
struct SumSpans : NoScratch {
  template <class Args> static THINWIRE_HD std::size_t units(const Args& a) {
    return a.n == 0 ? 0 : 1;
  }

  template <class Team, class Args>
  THINWIRE_TEAM void operator()(const Team& team, const Item<Args>& item, std::size_t,
                                float*) const {
    const TopKOrdinals ordinals = topk_ordinals(item.work, item.args.n);
    exclusive_sums(team, ordinals.of_spans, ordinals.spans);
  }
};

// Writes the entries of each group, and the residual. One unit is one group; its entries' values go
// through the scratch.
template <TopKValues V> struct WriteGroups {
  static constexpr std::size_t kScratch = TopK::kGroup;
  std::uint64_t* nonfinite;

  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return topk_groups(a.n); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t group,
                                float* scratch) const {
    const EncodeArgs& a = item.args;
    const TopKSections s = topk_sections(a.n, a.spec.density, V);
    const std::uint32_t bound = topk_work(item.work).bound;
    const std::size_t first = smaller(s.capacity, topk_ordinals(item.work, a.n).first(group)),
                      room = s.capacity - first;
    const BlockScale scale = group_scale(team, a, bound, group, room, scratch);
    const bool spoiled = is_nan_scale(scale.bits);
    const auto write = [&](unsigned, std::size_t i, F y, std::uint32_t ordinal) {
      F error = spoiled ? F::splat(0.0f) : y;
      if (ordinal != kNotSent) {
        a.payload[s.offsets + first + ordinal] = static_cast<std::uint8_t>(i % TopK::kRow);
        if (scale.coded)
          error = y - write_code(team, a.payload + s.values, first + ordinal, y, scale);
      }
      keep(a, i, error);
    };
    const auto write_count = [&](std::size_t row, std::size_t sent) {
      once(team, [&] { a.payload[row] = static_cast<std::uint8_t>(sent); });
    };
    walk_group(team, a, bound, group, room, write, write_count);
    once(team, [&] {
      reinterpret_cast<std::uint16_t*>(a.payload + s.scales)[group] = scale.bits;
      if (spoiled)
        team.add(nonfinite, 1);
    });
  }

private:
  template <class Team>
  static THINWIRE_TEAM BlockScale group_scale(const Team& team, const EncodeArgs& a,
                                              std::uint32_t bound, std::size_t group,
                                              std::size_t room, float* sent) {
    auto most = team.lanes([](unsigned) { return std::uint32_t{0}; }); // of all values of the group
    const auto collect = [&](unsigned lane, std::size_t, F y, std::uint32_t ordinal) {
      std::uint32_t& own = team.own(most, lane);
      own = magnitude(y) > own ? magnitude(y) : own;
      if (ordinal != kNotSent)
        sent[ordinal] = bits_float(magnitude(y));
    };
    const std::size_t entries = walk_group(team, a, bound, group, room, collect, [](auto&&...) {});
    const std::uint32_t highest = team.agreed(combined(
        team, most, kWarp, [](std::uint32_t x, std::uint32_t y) { return x > y ? x : y; }));
    float base = 0;
    if (highest >= kInfinityBits)
      base = bits_float(kFp32Nan);
    else if (entries != 0 && V == TopKValues::sign)
      base = sum16(team, entries, [=](std::size_t i) { return F::splat(sent[i]); }).v /
             static_cast<float>(entries);
    else
      base =
          bits_float(greatest(team, entries, [=](std::size_t i) { return float_bits(sent[i]); }));
    return block_scale(base, TopK::divisor(V));
  }

  // Writes the code of an entry, and says what it decodes to.
  template <class Team>
  static THINWIRE_TEAM F write_code(const Team& team, std::uint8_t* codes, std::size_t ordinal, F y,
                                    const BlockScale& s) {
    const F inverse = F::splat(s.inverse);
    std::uint16_t code;
    if constexpr (V == TopKValues::fp16) {
      code = to_fp16((y * inverse).v);
      reinterpret_cast<std::uint16_t*>(codes)[ordinal] = code;
    } else if constexpr (V == TopKValues::int8) {
      code = static_cast<std::uint16_t>(Int8::to_wire(Int8::quantise<F>(y, inverse)).v);
      codes[ordinal] = static_cast<std::uint8_t>(code);
    } else {
      code = static_cast<std::uint16_t>(Sign1::quantise<F>(y, inverse).v);
      if (code != 0)
        team.set_bits(reinterpret_cast<std::uint32_t*>(codes) + ordinal / 32, 1u << ordinal % 32);
    }
    return F::splat(topk_decoded<V>(code, s.value));
  }
};

// One unit is one group, put together in the scratch.
template <TopKValues V> struct ReadGroups {
  static constexpr std::size_t kScratch = TopK::kGroup;

  static THINWIRE_HD std::size_t units(const DecodeArgs& a) { return topk_groups(a.n); }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<DecodeArgs>& item, std::size_t group,
                                float* scratch) const {
    const DecodeArgs& a = item.args;
    const TopKSections s = topk_sections(a.n, a.spec.density, V);
    const std::size_t at = group * TopK::kGroup, count = smaller(TopK::kGroup, a.n - at);
    const float scale =
        from_bf16(reinterpret_cast<const std::uint16_t*>(a.payload + s.scales)[group]);
    const float elsewhere = is_finite({scale}) ? 0.0f : bits_float(kFp32Nan);
    each(team, count, [=](std::size_t i) { scratch[i] = elsewhere; });
    std::size_t ordinal = topk_ordinals(item.work, a.n).first(group);
    for (std::size_t row = 0; row * TopK::kRow < count && is_finite({scale}); ++row) {
      const std::size_t entries = a.payload[group * kGroupRows + row];
      each(team, entries, [&](std::size_t i) {
        const std::size_t offset = a.payload[s.offsets + ordinal + i];
        scratch[row * TopK::kRow + offset] =
            topk_decoded<V>(read_code(a.payload + s.values, ordinal + i), scale);
      });
      ordinal += entries;
    }
    each(team, count, [&](std::size_t i) { deliver(a, at + i, F::splat(scratch[i])); });
  }

private:
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
