// Kernels that encode topk, in the order in which they run: ClearTopK, FindThreshold twice,
// TakeEntries, PlaceEntries.
//
// TakeEntries reads every value, finds its group's entries and writes what is left as the residual.
// Where in the payload the entries belong is only known when all groups have been counted, so it
// puts them aside, and PlaceEntries moves them there. There is room for as many as a frame holds.
// If a sample misled, and there are more candidates than that, two things can happen to a group: it
// finds no room and is left as it was, for PlaceEntries to take; or it lies beyond what a frame
// holds, and PlaceEntries gives its residual back what is not sent.
//
// Of an fp32 tensor with a residual 8 bytes a value are read and 4 written, besides the payload;
// for each entry 6 bytes are put aside and read again; with the threshold's sample, 12.4 bytes a
// value and the payload at 1 %. Some 45 operations a value.
#pragma once

#include "dispatch/warp_scales.hpp"
#include "dispatch/warp_topk_threshold.hpp"

namespace thinwire::lane {

THINWIRE_TEAM std::uint16_t* topk_scales(const EncodeArgs& a) {
  return reinterpret_cast<std::uint16_t*>(a.payload +
                                          topk_sections(a.n, a.spec.density, a.spec.values).scales);
}

// The codes of topk's entries.
template <TopKValues V> struct TopKCoding {
  // `scale` as on the wire.
  static THINWIRE_TEAM std::uint16_t code(float v, std::uint16_t scale) {
    if (!has_codes(scale))
      return 0;
    const F value = F::splat(v), inverse = F::splat(1.0f / from_bf16(scale));
    if constexpr (V == TopKValues::fp16)
      return to_fp16((value * inverse).v);
    else if constexpr (V == TopKValues::int8)
      return static_cast<std::uint16_t>(Int8::to_wire(nearest_code<Int8>(value, inverse)).v);
    else
      return static_cast<std::uint16_t>(nearest_code<Sign1>(value, inverse).v);
  }

  static THINWIRE_TEAM float error(float v, std::uint16_t scale) {
    if (!has_codes(scale))
      return v;
    return (F::splat(v) - F::splat(topk_decoded<V>(code(v, scale), from_bf16(scale)))).v;
  }

  // The scale of a finite group's entries, whose magnitude bits are size(0) .. size(entries - 1).
  template <class Team, class Fn>
  static THINWIRE_TEAM BlockScale scale(const Team& team, std::size_t entries, Fn size) {
    float base = 0;
    if (entries != 0 && V == TopKValues::sign)
      base = sum16(team, entries, [=](std::size_t i) { return F::splat(bits_float(size(i))); }).v /
             static_cast<float>(entries);
    else
      base = bits_float(greatest(team, entries, size));
    return block_scale(base, TopK::divisor(V));
  }
};

struct PlacedEntry {
  bool is_there;
  std::uint16_t place, code; // the place in its group
};

// Writes offsets and codes of the entries with ordinals from `first` up to `end`. find(at) says
// what those from `at` on are, one a lane: an each of PlacedEntry.
template <TopKValues V, class Team, class Fn>
THINWIRE_TEAM void write_entries(const Team& team, const EncodeArgs& a, std::size_t first,
                                 std::size_t end, Fn find) {
  const TopKSections s = topk_sections(a.n, a.spec.density, V);
  std::uint8_t* codes = a.payload + s.values;
  for (std::size_t at = first / kWarp * kWarp; at < end; at += kWarp) { // whole words of bits
    auto entries = find(at);
    team.lanes([&](unsigned lane) {
      const PlacedEntry& entry = team.own(entries, lane);
      if (!entry.is_there)
        return;
      a.payload[s.offsets + at + lane] = static_cast<std::uint8_t>(entry.place % TopK::kRow);
      if constexpr (V == TopKValues::fp16)
        reinterpret_cast<std::uint16_t*>(codes)[at + lane] = entry.code;
      else if constexpr (V == TopKValues::int8)
        codes[at + lane] = static_cast<std::uint8_t>(entry.code);
    });
    if constexpr (V == TopKValues::sign) {
      const std::uint32_t mask = team.ballot([&](unsigned lane) {
        const PlacedEntry& entry = team.own(entries, lane);
        return entry.is_there && entry.code != 0;
      });
      once(team, [&] {
        if (mask != 0)
          team.set_bits(reinterpret_cast<std::uint32_t*>(codes) + at / kWarp, mask);
      });
    }
  }
}

// A group of values in a warp's scratch: y, and behind it the places of the entries.
inline constexpr std::size_t kTopKScratch =
    TopK::kGroup + TopK::kGroup * sizeof(std::uint16_t) / sizeof(float);

template <TopKValues V, class Team> class TopKGroup {
public:
  std::size_t entries;

  // Takes as entries what reaches the bound, at most `room` of it, and writes the rows' counts.
  THINWIRE_TEAM TopKGroup(const Team& team, const EncodeArgs& a, std::size_t group,
                          std::uint32_t bound, std::size_t room, float* scratch)
      : team_(team), a_(a), group_(group), y_(scratch),
        places_(reinterpret_cast<std::uint16_t*>(scratch + TopK::kGroup)) {
    most_ = fill();
    entries = select(bound, room);
  }

  THINWIRE_TEAM std::uint16_t place(std::size_t i) const { return places_[i]; }
  THINWIRE_TEAM float value(std::size_t i) const { return y_[places_[i]]; }

  // As on the wire.
  THINWIRE_TEAM std::uint16_t scale() const {
    if (most_ >= kInfinityBits)
      return kBf16Nan;
    const auto size = [this](std::size_t i) { return magnitude(F::splat(value(i))); };
    return TopKCoding<V>::scale(team_, entries, size).bits;
  }

  // Writes the scale and the residual. The entries' values are gone then.
  THINWIRE_TEAM void finish(std::uint16_t scale) {
    const bool spoiled = is_nan_scale(scale);
    each(team_, entries, [&](std::size_t i) {
      float& v = y_[places_[i]];
      v = TopKCoding<V>::error(v, scale);
    });
    team_.lanes([&](unsigned lane) {
      for (unsigned i = kQuad * lane; i < TopK::kGroup; i += kQuad * kWarp)
        keep(a_, group_ * TopK::kGroup + i, spoiled ? Quad{} : get(y_, i));
    });
    once(team_, [&] {
      topk_scales(a_)[group_] = scale;
      if (spoiled)
        team_.add(a_.nonfinite, std::uint64_t{1});
    });
  }

private:
  // Returns the greatest magnitude bits.
  THINWIRE_TEAM std::uint32_t fill() {
    const std::size_t at = group_ * TopK::kGroup, end = smaller(a_.n, at + TopK::kGroup);
    const auto most = team_.lanes([&](unsigned lane) {
      std::uint32_t found = 0;
      each_quad<4>(a_, at, end, at + TopK::kGroup, lane, [&](std::size_t i, const Quad& q) {
        put(y_, static_cast<unsigned>(i - at), q);
        THINWIRE_UNROLL
        for (unsigned j = 0; j < kQuad; ++j)
          found = magnitude(q.v[j]) > found ? magnitude(q.v[j]) : found;
      });
      return found;
    });
    return greatest(team_, most);
  }

  // Returns how many entries there are.
  THINWIRE_TEAM std::size_t select(std::uint32_t bound, std::size_t room) {
    std::size_t taken = 0;
    for (std::size_t row = 0; row < kGroupRows && group_ * TopK::kGroup + row * TopK::kRow < a_.n;
         ++row) {
      const std::size_t most = smaller(TopK::kMostInRow, room - taken);
      std::size_t found = 0;
      for (std::size_t at = row * TopK::kRow; at < (row + 1) * TopK::kRow; at += kWarp) {
        const std::uint32_t mask = team_.ballot(
            [&](unsigned lane) { return magnitude(F::splat(y_[at + lane])) >= bound; });
        team_.lanes([&](unsigned lane) {
          const std::size_t before = found + count_bits(mask & ((1u << lane) - 1));
          if ((mask >> lane & 1u) != 0 && before < most)
            places_[taken + before] = static_cast<std::uint16_t>(at + lane);
        });
        found += count_bits(mask);
      }
      const std::size_t sent = smaller(found, most);
      once(team_, [&] { a_.payload[group_ * kGroupRows + row] = static_cast<std::uint8_t>(sent); });
      taken += sent;
    }
    return taken;
  }

  const Team& team_;
  const EncodeArgs& a_;
  std::size_t group_;
  float* y_;
  std::uint16_t* places_;
  std::uint32_t most_;
};

// One unit is one group. The last of a span makes ordinals of its groups' entries.
template <TopKValues V> struct TakeEntries {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) { return topk_groups(a.n); }
  static THINWIRE_HD std::size_t scratch(const EncodeArgs&) { return kTopKScratch; }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t group,
                                float* scratch) const {
    const EncodeArgs& a = item.args;
    const TopKOrdinals ordinals = topk_ordinals(item.work, a.n);
    const TopKAside aside = topk_aside(item.work, a);
    TopKWork& work = topk_work(item.work);
    TopKGroup<V, Team> taken(team, a, group, work.bound, TopK::kGroup, scratch);
    const auto entries = static_cast<std::uint32_t>(taken.entries);
    const std::uint64_t first = room_for(team, a, work, entries);
    once(team, [&] {
      aside.groups[group] = {first, entries, 0};
      ordinals.of_groups[group] = entries;
    });
    if (first != TopKAside::kNoRoom) {
      each(team, entries, [&](std::size_t i) {
        aside.values[first + i] = taken.value(i);
        aside.places[first + i] = taken.place(i);
      });
      taken.finish(taken.scale());
    }
    const std::size_t span = group / kSpan, groups = smaller(kSpan, ordinals.groups - span * kSpan);
    if (!team.last_of(ordinals.done + span, groups))
      return;
    const std::uint32_t all = exclusive_sums(team, ordinals.of_groups + span * kSpan, groups);
    once(team, [&] { ordinals.of_spans[span] = all; });
  }

private:
  // Where a group's entries are put aside. A residual that is held cannot be given back anything,
  // as PlaceEntries may have to: it is added to what was there.
  template <class Team>
  static THINWIRE_TEAM std::uint64_t room_for(const Team& team, const EncodeArgs& a, TopKWork& work,
                                              std::uint32_t entries) {
    if (entries == 0)
      return 0;
    const std::uint64_t first = team.take(&work.set_aside, entries);
    const bool fits = first + entries <= TopK::capacity(a.n, a.spec.density);
    return fits && !(a.residual_in && a.held) ? first : TopKAside::kNoRoom;
  }
};

// One unit is as many groups as a warp has lanes.
template <TopKValues V> struct PlaceEntries {
  static THINWIRE_HD std::size_t units(const EncodeArgs& a) {
    return ceil_div(topk_groups(a.n), kWarp);
  }
  static THINWIRE_HD std::size_t scratch(const EncodeArgs&) { return kTopKScratch; }

  template <class Team>
  THINWIRE_TEAM void operator()(const Team& team, const Item<EncodeArgs>& item, std::size_t unit,
                                float* scratch) const {
    const Unit u = unit_of(team, item, unit);
    write_entries<V>(team, item.args, smaller(u.capacity, u.begin(u.first)),
                     smaller(u.capacity, u.end(u.past - 1)), [&](std::size_t at) {
                       return team.lanes([&](unsigned lane) { return entry(u, at + lane); });
                     });
    const std::uint32_t misled = team.ballot(
        [&](unsigned lane) { return u.first + lane < u.past && u.is_misled(u.first + lane); });
    for (std::uint32_t left = misled; left != 0; left &= left - 1) {
      const std::size_t group = u.first + log2_of(left & (~left + 1));
      if (u.aside.groups[group].first == TopKAside::kNoRoom)
        take(team, u, group, topk_work(item.work).bound, scratch);
      else
        give_back(team, u, group);
    }
  }

private:
  // Groups from `first` up to `past`.
  struct Unit {
    const EncodeArgs& a;
    TopKAside aside;
    const std::uint32_t* of_groups;
    std::size_t before, capacity, first, past;

    THINWIRE_TEAM std::size_t begin(std::size_t group) const { return before + of_groups[group]; }
    THINWIRE_TEAM std::size_t end(std::size_t group) const {
      return begin(group) + aside.groups[group].entries;
    }
    THINWIRE_TEAM bool is_misled(std::size_t group) const {
      const TopKAside::Group& kept = aside.groups[group];
      return kept.entries != 0 && (kept.first == TopKAside::kNoRoom || end(group) > capacity);
    }
    // How many entries of a group the frame holds.
    THINWIRE_TEAM std::size_t room(std::size_t group) const {
      return capacity - smaller(capacity, begin(group));
    }
  };

  template <class Team>
  static THINWIRE_TEAM Unit unit_of(const Team& team, const Item<EncodeArgs>& item,
                                    std::size_t unit) {
    static_assert(kSpan % kWarp == 0, "the groups of a unit are in one span");
    const EncodeArgs& a = item.args;
    const TopKOrdinals ordinals = topk_ordinals(item.work, a.n);
    const std::size_t first = unit * kWarp;
    return {a,
            topk_aside(item.work, a),
            ordinals.of_groups,
            entries_before(team, ordinals, first),
            TopK::capacity(a.n, a.spec.density),
            first,
            smaller(ordinals.groups, first + kWarp)};
  }

  // The one with this ordinal, unless its group was misled.
  static THINWIRE_TEAM PlacedEntry entry(const Unit& u, std::size_t ordinal) {
    if (ordinal < u.begin(u.first) || ordinal >= u.end(u.past - 1))
      return {};
    std::size_t group = u.first;
    for (std::size_t step = kWarp / 2; step > 0; step /= 2)
      if (group + step < u.past && u.begin(group + step) <= ordinal)
        group += step;
    if (u.is_misled(group))
      return {};
    const std::size_t at = u.aside.groups[group].first + ordinal - u.begin(group);
    return {true, u.aside.places[at],
            TopKCoding<V>::code(u.aside.values[at], topk_scales(u.a)[group])};
  }

  // What TakeEntries had no room for.
  template <class Team>
  THINWIRE_TEAM void take(const Team& team, const Unit& u, std::size_t group, std::uint32_t bound,
                          float* scratch) const {
    TopKGroup<V, Team> taken(team, u.a, group, bound, u.room(group), scratch);
    const std::uint16_t scale = taken.scale();
    write_entries_of(team, u, group, taken.entries, [&](std::size_t i) {
      return PlacedEntry{true, taken.place(i), TopKCoding<V>::code(taken.value(i), scale)};
    });
    taken.finish(scale);
  }

  // Sends fewer entries than were taken.
  template <class Team>
  static THINWIRE_TEAM void give_back(const Team& team, const Unit& u, std::size_t group) {
    const TopKAside::Group& kept = u.aside.groups[group];
    const float* values = u.aside.values + kept.first;
    const std::uint16_t* places = u.aside.places + kept.first;
    const std::size_t sent = u.room(group);
    count_rows(team, u.a, group, places, sent);
    std::uint16_t scale = topk_scales(u.a)[group];
    const bool spoiled = is_nan_scale(scale); // and its residual is zero
    if (!spoiled)
      scale = TopKCoding<V>::scale(team, sent, [=](std::size_t i) {
                return magnitude(F::splat(values[i]));
              }).bits;
    write_entries_of(team, u, group, sent, [&](std::size_t i) {
      return PlacedEntry{true, places[i], TopKCoding<V>::code(values[i], scale)};
    });
    if (u.a.residual_out && !spoiled)
      each(team, kept.entries, [&](std::size_t i) {
        store(u.a.residual_out, u.a.residual_dtype, group * TopK::kGroup + places[i],
              F::splat(i < sent ? TopKCoding<V>::error(values[i], scale) : values[i]));
      });
    once(team, [&] { topk_scales(u.a)[group] = scale; });
  }

  template <class Team>
  static THINWIRE_TEAM void count_rows(const Team& team, const EncodeArgs& a, std::size_t group,
                                       const std::uint16_t* places, std::size_t entries) {
    for (std::size_t row = 0; row < kGroupRows && group * TopK::kGroup + row * TopK::kRow < a.n;
         ++row) {
      const auto counts = team.lanes([&](unsigned lane) {
        std::uint32_t found = 0;
        for (std::size_t i = lane; i < entries; i += kWarp)
          found += places[i] / TopK::kRow == row ? 1u : 0u;
        return found;
      });
      const std::uint32_t count = total(team, counts);
      once(team, [&] { a.payload[group * kGroupRows + row] = static_cast<std::uint8_t>(count); });
    }
  }

  // Of one group: entry(i) for each i below `entries`.
  template <class Team, class Fn>
  static THINWIRE_TEAM void write_entries_of(const Team& team, const Unit& u, std::size_t group,
                                             std::size_t entries, Fn entry) {
    const std::size_t first = u.begin(group), end = first + entries;
    write_entries<V>(team, u.a, first, end, [&](std::size_t at) {
      return team.lanes([&](unsigned lane) {
        const std::size_t ordinal = at + lane;
        return ordinal >= first && ordinal < end ? entry(ordinal - first) : PlacedEntry{};
      });
    });
  }
};

} // namespace thinwire::lane
