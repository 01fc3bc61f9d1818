#include "pool/heap.hpp"

#include "pool/size_class.hpp"

#include <algorithm>
#include <limits>

namespace thinwire::pool {
namespace {

std::size_t committed_in(const Extent& extent) {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < extent.granules; ++i)
    bytes += extent[i].committed;
  return bytes;
}

Extent all_of(Region& region) { return {&region, 0, region.size()}; }

void mark(const Extent& extent, bool used) {
  for (std::size_t i = 0; i < extent.granules; ++i)
    extent[i].used = used;
}

// What [from, to) of an extent has of one of its granules and is not committed.
struct Gap {
  std::size_t from;
  std::size_t to;
  std::size_t bytes() const { return to > from ? to - from : 0; }
};

Gap gap_in(const Extent& extent, std::size_t granule, std::size_t to) {
  const std::size_t begin = granule * kGranule;
  return {begin + extent[granule].committed, std::min(to, begin + kGranule)};
}

} // namespace

std::optional<Extent> Heap::take(std::size_t granules, std::vector<Fresh>& fresh,
                                 Refusal& refusal) {
  std::optional<Extent> found = find(granules);
  if (!found) {
    Region* region = grow(granules, fresh, refusal);
    if (!region)
      return std::nullopt;
    found = Extent{region, 0, granules};
  }
  mark(*found, true);
  used_ += committed_in(*found);
  most_used_ = std::max(most_used_, used_);
  return found;
}

// Memory that is there already goes first.
std::optional<Extent> Heap::find(std::size_t granules) const {
  for (const bool committed : {true, false})
    for (const auto& region : regions_)
      if (const auto first = region->find(granules, committed))
        return Extent{region.get(), *first, granules};
  return std::nullopt;
}

// A new region is as large as all there are: few mappings, and registrations of up to 1 GiB. What
// is to be registered is committed as a whole; all else costs addresses only.
Region* Heap::grow(std::size_t granules, std::vector<Fresh>& fresh, Refusal& refusal) {
  std::size_t size = std::clamp(mapped_, kSmallestRegion, kLargestStep) / kGranule;
  if (options_.pin) {
    const std::size_t left = budget_.bytes - std::min(budget_.bytes, held_);
    size = std::min(size, left / kGranule);
    if (granules * kGranule > std::min(left, kMostPinned)) {
      refusal = Refusal::limit;
      return nullptr;
    }
  }
  auto region = Region::map(std::max(size, granules), options_.hide_from_children);
  if (!region) // fewer addresses may be left than were asked for
    region = Region::map(granules, options_.hide_from_children);
  if (!region) {
    refusal = Refusal::system;
    return nullptr;
  }
  if (options_.pin) {
    region->pin = Region::Pin::wanted;
    commit(all_of(*region), 0, region->bytes(), fresh);
  }
  mapped_ += region->bytes();
  return regions_.emplace_back(std::move(region)).get();
}

bool Heap::commit(const Extent& extent, std::size_t from, std::size_t to,
                  std::vector<Fresh>& fresh) {
  const std::size_t first = from / kGranule;
  std::size_t more = 0;
  for (std::size_t i = first; i * kGranule < to; ++i)
    more += gap_in(extent, i, to).bytes();
  if (more > budget_.bytes - std::min(budget_.bytes, held_))
    return false;
  Fresh part{extent, first * kGranule, first * kGranule};
  for (std::size_t i = first; i * kGranule < to; ++i) {
    const Gap gap = gap_in(extent, i, to);
    if (gap.bytes() == 0)
      continue;
    extent[i].committed += static_cast<std::uint32_t>(gap.bytes());
    if (extent[i].used)
      used_ += gap.bytes();
    if (gap.from != part.to) {
      if (part.to > part.from)
        fresh.push_back(part);
      part.from = gap.from;
    }
    part.to = gap.to;
  }
  if (part.to > part.from)
    fresh.push_back(part);
  held_ += more;
  peak_ = std::max(peak_, held_);
  most_used_ = std::max(most_used_, used_);
  return true;
}

void Heap::give(const Extent& extent, Nanoseconds now) {
  used_ -= committed_in(extent);
  mark(extent, false);
  for (std::size_t i = 0; i < extent.granules; ++i)
    extent[i].freed_at = now;
}

Leaving Heap::leave(std::size_t keep) {
  reserved = std::min(reserved, keep);
  return leave(held_ - std::min(held_, keep), std::numeric_limits<Nanoseconds>::max());
}

Leaving Heap::decay(Nanoseconds now) {
  if (!is_decay_due(now))
    return {};
  decayed_at_ = now;
  const std::size_t needed = std::max({most_used_, most_used_before_, reserved});
  most_used_before_ = most_used_;
  most_used_ = used_;
  return leave(held_ - std::min(held_, needed), now - std::min(now, options_.decay));
}

// From the last region and its end on, as memory is taken from the first and its beginning.
Leaving Heap::leave(std::size_t excess, Nanoseconds freed_before) {
  Leaving all;
  for (std::size_t r = regions_.size(); r-- > 0 && all.bytes < excess;) {
    const std::unique_ptr<Region>& region = regions_[r];
    const Extent whole = all_of(*region);
    const std::size_t bytes = committed_in(whole);
    const bool settled = [&] {
      for (std::size_t i = 0; i < whole.granules; ++i)
        if (whole[i].used || (whole[i].committed > 0 && whole[i].freed_at > freed_before))
          return false;
      return true;
    }();
    if (settled && region->pin != Region::Pin::wanted && all.bytes + bytes <= excess) {
      all.bytes += bytes;
      mapped_ -= region->bytes();
      all.regions.push_back(std::move(regions_[r]));
      regions_.erase(regions_.begin() + static_cast<std::ptrdiff_t>(r));
    } else if (region->pin == Region::Pin::none) {
      leave_granules(*region, excess, freed_before, all);
    }
  }
  return all;
}

void Heap::leave_granules(Region& region, std::size_t excess, Nanoseconds freed_before,
                          Leaving& all) {
  for (std::size_t i = region.size(); i-- > 0 && all.bytes < excess;) {
    Granule& granule = region[i];
    if (granule.used || granule.committed == 0 || granule.freed_at > freed_before)
      continue;
    granule.used = true;
    all.bytes += granule.committed;
    if (!all.extents.empty() && all.extents.back().region == &region &&
        all.extents.back().first == i + 1)
      all.extents.back() = {&region, i, all.extents.back().granules + 1};
    else
      all.extents.push_back({&region, i, 1});
  }
}

void Heap::left(const Leaving& leaving) {
  for (const Extent& extent : leaving.extents) {
    for (std::size_t i = 0; i < extent.granules; ++i) {
      extent[i].committed = 0;
      extent[i].tier = Tier::plain;
    }
    mark(extent, false);
  }
  held_ -= leaving.bytes;
}

const std::array<TierStats, kTiers>& Heap::tiers() {
  for (TierStats& tier : tiers_)
    tier.held = 0;
  for (const auto& region : regions_)
    for (std::size_t i = 0; i < region->size(); ++i)
      tiers_[static_cast<std::size_t>((*region)[i].tier.load())].held += (*region)[i].committed;
  for (TierStats& tier : tiers_)
    tier.peak = std::max(tier.peak, tier.held);
  return tiers_;
}

std::vector<Range> Heap::ranges() const {
  std::vector<Range> all;
  for (const auto& region : regions_)
    all.emplace_back(region->begin(), region->bytes());
  return all;
}

} // namespace thinwire::pool
