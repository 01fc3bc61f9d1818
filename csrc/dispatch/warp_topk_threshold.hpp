// What the kernels of topk hand on, and how the threshold is found.
//
// The threshold's bits are found in two launches: the first counts sampled values by their leading
// eleven bits, and its last warp finds in which of these bins the threshold falls; the second does
// the same with the next eleven bits of the values in that bin. Both read the sample: every value
// up to 2^16 of them, one in 64 of many, so 2 * (4 + 4) / 64 bytes a value of an fp32 tensor with a
// residual; some 20 instructions for each value of the sample. This is so little that nothing is
// kept from one step to the next: a threshold of an earlier step would have to be checked against
// the same sample, as the bytes of a frame are the same wherever it is made.
#pragma once

#include "dispatch/warp_kernel.hpp"

namespace thinwire::lane {

inline constexpr std::size_t kSpan = 1024; // groups; ordinals count from the span's first entry
inline constexpr std::size_t kGroupRows = TopK::kGroup / TopK::kRow;

THINWIRE_HD std::size_t topk_groups(std::size_t n) { return ceil_div(n, TopK::kGroup); }
THINWIRE_HD std::size_t topk_spans(std::size_t n) { return ceil_div(topk_groups(n), kSpan); }

// The first part of a segment's working memory; the ordinals follow.
struct TopKWork {
  std::uint32_t bins[2][TopK::kBins];
  std::uint32_t counted[2]; // units
  std::uint32_t prefix;     // the threshold's leading bits
  std::uint32_t bound;      // the threshold
  std::uint64_t rank;       // of the threshold among those that share the bits found so far, from 1
  std::uint64_t set_aside;  // entries that asked for room; see TopKAside
};

// For each span the number of its entries, for each group the number since its span's start; and
// how many groups of each span are done.
struct TopKOrdinals {
  std::size_t groups;
  std::uint64_t* of_spans;
  std::uint32_t *of_groups, *done;
};

THINWIRE_HD std::size_t topk_done_bytes(std::size_t n) {
  return align16(topk_spans(n) * sizeof(std::uint32_t));
}

// What has to be zero at first.
THINWIRE_HD std::size_t topk_clear_bytes(std::size_t n) {
  return sizeof(TopKWork) + topk_done_bytes(n);
}

THINWIRE_HD std::size_t topk_work_bytes(std::size_t n) {
  return topk_clear_bytes(n) +
         align16(topk_spans(n) * sizeof(std::uint64_t) + topk_groups(n) * sizeof(std::uint32_t));
}

THINWIRE_TEAM TopKWork& topk_work(std::byte* work) { return *reinterpret_cast<TopKWork*>(work); }

THINWIRE_TEAM TopKOrdinals topk_ordinals(std::byte* work, std::size_t n) {
  auto* done = reinterpret_cast<std::uint32_t*>(work + sizeof(TopKWork));
  auto* of_spans = reinterpret_cast<std::uint64_t*>(work + topk_clear_bytes(n));
  return {topk_groups(n), of_spans, reinterpret_cast<std::uint32_t*>(of_spans + topk_spans(n)),
          done};
}

// How many entries come before the span that a group is in.
template <class Team>
THINWIRE_TEAM std::size_t entries_before(const Team& team, const TopKOrdinals& ordinals,
                                         std::size_t group) {
  const std::size_t span = group / kSpan;
  const auto before = team.lanes([&](unsigned lane) {
    std::uint64_t sum = 0;
    for (std::size_t i = lane; i < span; i += kWarp)
      sum += ordinals.of_spans[i];
    return sum;
  });
  return total(team, before);
}

// Entries that were taken, and not written yet: a group's lie together, in order. There is room for
// as many as a frame holds.
struct TopKAside {
  struct Group {
    std::uint64_t first; // kNoRoom: the group has not been taken
    std::uint32_t entries, padding;
  };
  static constexpr std::uint64_t kNoRoom = ~std::uint64_t{0};

  Group* groups;
  float* values;
  std::uint16_t* places; // in the group
};

THINWIRE_HD std::size_t topk_aside_bytes(std::size_t n, std::uint32_t millionths) {
  const std::size_t room = TopK::capacity(n, millionths);
  return topk_groups(n) * sizeof(TopKAside::Group) + align16(room * sizeof(float)) +
         align16(room * sizeof(std::uint16_t));
}

// They lie behind the ordinals.
THINWIRE_TEAM TopKAside topk_aside(std::byte* work, const EncodeArgs& a) {
  auto* groups = reinterpret_cast<TopKAside::Group*>(work + topk_work_bytes(a.n));
  auto* values = reinterpret_cast<float*>(groups + topk_groups(a.n));
  const std::size_t room = TopK::capacity(a.n, a.spec.density);
  return {groups, values,
          reinterpret_cast<std::uint16_t*>(reinterpret_cast<std::byte*>(values) +
                                           align16(room * sizeof(float)))};
}

// Zeroes the payload and what of the working memory has to be, 16 bytes at a time.
struct ClearTopK : NoScratch {
  static constexpr std::size_t kUnit = 4096; // bytes

  static THINWIRE_HD std::size_t payload_bytes(const EncodeArgs& a) {
    return topk_sections(a.n, a.spec.density, a.spec.values).bytes;
  }
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) {
    return ceil_div(payload_bytes(a), kUnit) + ceil_div(topk_clear_bytes(a.n), kUnit);
  }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float*) const {
    const std::size_t bytes = payload_bytes(item.args), payload_units = ceil_div(bytes, kUnit);
    if (unit < payload_units)
      clear(team, item.args.payload, bytes, unit);
    else
      clear(team, reinterpret_cast<std::uint8_t*>(item.work), topk_clear_bytes(item.args.n),
            unit - payload_units);
  }

private:
  static_assert(sizeof(TopKWork) % sizeof(Words<4>) == 0);

  template <class Team>
  static THINWIRE_TEAM void clear(const Team& team, std::uint8_t* base, std::size_t bytes,
                                  std::size_t unit) {
    std::uint8_t* from = base + unit * kUnit;
    each(team, smaller(kUnit, bytes - unit * kUnit) / sizeof(Words<4>),
         [=](std::size_t i) { write_words<4>(from + i * sizeof(Words<4>), {}); });
  }
};

// One unit is some chunks of the sample. Their bins are counted in the scratch first: values that
// are alike meet in few of them, and the memory's atomic additions to one address wait for each
// other.
template <int kLevel> struct FindThreshold {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) {
    return a.n == 0 ? 0 : ceil_div(topk_sample(a.n, a.spec.density, a.step).chunks, kChunks);
  }
  static THINWIRE_HD std::size_t scratch(const EncodeArgs&) { return TopK::kBins; }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float* scratch) const {
    const EncodeArgs& a = item.args;
    TopKWork& work = topk_work(item.work);
    const TopKSample sample = topk_sample(a.n, a.spec.density, a.step);
    auto* bins = reinterpret_cast<std::uint32_t*>(scratch);
    each(team, TopK::kBins, [=](std::size_t i) { bins[i] = 0; });
    count(team, a, sample, unit * kChunks, work.prefix, bins);
    each(team, TopK::kBins, [&](std::size_t i) {
      if (bins[i] != 0)
        team.add(&work.bins[kLevel][i], bins[i]);
    });
    if (team.last_of(&work.counted[kLevel], units(a)))
      pick(team, work, kLevel == 0 ? sample.rank : work.rank);
  }

private:
  static constexpr unsigned kQuads = 4, // of a lane
      kLanesOfChunk = TopK::kSampleChunk / kQuad, kChunks = kQuads * kWarp / kLanesOfChunk;

  // Counts the chunks of a unit, from number `first` of the sample on.
  template <class Team>
  static THINWIRE_TEAM void count(const Team& team, const EncodeArgs& a, const TopKSample& sample,
                                  std::size_t first, std::uint32_t prefix, std::uint32_t* bins) {
    const auto at = [&](unsigned lane, unsigned k) {
      const std::size_t chunk = first + (k * kWarp + lane) / kLanesOfChunk;
      const std::size_t found = (sample.phase + chunk * sample.stride) * TopK::kSampleChunk +
                                kQuad * (lane % kLanesOfChunk);
      return chunk < sample.chunks ? found : a.n;
    };
    auto quads = team.lanes([&](unsigned lane) {
      Quads<kQuads> found;
      THINWIRE_UNROLL
      for (unsigned k = 0; k < kQuads; ++k)
        found.q[k] = values<1, false>(a, at(lane, k), a.n, 0).q[0];
      return found;
    });
    THINWIRE_UNROLL
    for (unsigned k = 0; k < kQuads; ++k) {
      THINWIRE_UNROLL
      for (unsigned j = 0; j < kQuad; ++j)
        team.tally(bins, [&](unsigned lane) {
          return at(lane, k) + j < a.n ? bin_of(magnitude(team.own(quads, lane).q[k].v[j]), prefix)
                                       : kNowhere;
        });
    }
  }

  static THINWIRE_TEAM std::uint32_t bin_of(std::uint32_t size, std::uint32_t prefix) {
    const std::uint32_t leading = size >> TopK::kLeadingShift;
    if constexpr (kLevel == 0)
      return leading;
    else
      return leading == prefix ? (size / TopK::kThresholdStep) % TopK::kBins : kNowhere;
  }

  // Finds the bin in which the threshold's rank falls, from the greatest bin down.
  template <class Team>
  static THINWIRE_TEAM void pick(const Team& team, TopKWork& work, std::uint64_t rank) {
    constexpr unsigned kRun = 8; // bins of a lane at once
    const std::uint32_t* bins = work.bins[kLevel];
    std::uint64_t above = 0; // values in greater bins
    for (std::uint32_t end = TopK::kBins; end > 0 && above < rank; end -= kRun * kWarp) {
      const auto first = [=](unsigned lane) { return end - 1 - kRun * lane; };
      auto runs = team.lanes([&](unsigned lane) {
        std::uint64_t sum = 0;
        THINWIRE_UNROLL
        for (unsigned j = 0; j < kRun; ++j)
          sum += bins[first(lane) - j];
        return sum;
      });
      auto sums = running_sums(team, runs);
      team.lanes([&](unsigned lane) {
        std::uint64_t before = above + team.own(sums, lane) - team.own(runs, lane);
        if (before >= rank || rank > above + team.own(sums, lane))
          return;
        std::uint32_t bin = first(lane);
        for (; before + bins[bin] < rank; --bin)
          before += bins[bin];
        found(work, bin, rank - before);
      });
      above += last(team, sums);
    }
  }

  static THINWIRE_TEAM void found(TopKWork& work, std::uint32_t bin, std::uint64_t rank_in_bin) {
    if constexpr (kLevel == 0) {
      work.prefix = bin;
      work.rank = rank_in_bin;
    } else {
      work.bound = topk_bound(work.prefix, bin);
    }
  }
};

} // namespace thinwire::lane
