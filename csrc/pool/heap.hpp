// Regions of a pool and who has which of their granules. Used under the lock of the shared lists.
#pragma once

#include "pool/budget.hpp"
#include "pool/first_touch.hpp"
#include "pool/pool_stats.hpp"
#include "pool/region.hpp"

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

namespace thinwire::pool {

// Why memory is not to be had.
enum class Refusal { none, limit, system };

// Memory on its way back to the system: nobody else may have it meanwhile.
struct Leaving {
  std::vector<std::unique_ptr<Region>> regions;
  std::vector<Extent> extents;
  std::size_t bytes = 0;
};

class Heap {
public:
  struct Options {
    bool pin; // regions are to be registered with the CUDA driver, each as a whole
    bool hide_from_children;
    Nanoseconds decay; // 0: never
  };
  static constexpr std::size_t kSmallestRegion = std::size_t{64} << 20;
  static constexpr std::size_t kLargestStep = std::size_t{1}
                                              << 30; // pinned at a time, if it may be
  static constexpr std::size_t kMostPinned = std::size_t{64} << 30; // what a driver takes at once

  Heap(const Budget& budget, const Options& options) : budget_(budget), options_(options) {}

  // Granules in a row, if need be in a new region; `fresh` is what of it has to be touched.
  std::optional<Extent> take(std::size_t granules, std::vector<Fresh>& fresh, Refusal& refusal);
  // Counts a part of an extent as held.
  bool commit(const Extent& extent, std::size_t from, std::size_t to, std::vector<Fresh>& fresh);
  void give(const Extent& extent, Nanoseconds now);

  // What is unused goes until no more than `keep` bytes are held.
  Leaving leave(std::size_t keep);
  // What has been unused for the decay time, but for what the last two such times have needed.
  bool is_decay_due(Nanoseconds now) const {
    return options_.decay > 0 && now >= decayed_at_ + options_.decay;
  }
  Leaving decay(Nanoseconds now);
  void left(const Leaving& leaving); // after it has gone

  const Budget& budget() const { return budget_; }
  std::size_t held() const { return held_; }
  std::size_t peak() const { return peak_; }
  std::size_t reserved = 0;                     // bytes that decay leaves alone
  const std::array<TierStats, kTiers>& tiers(); // as they are now
  std::vector<Range> ranges() const;

private:
  std::optional<Extent> find(std::size_t granules) const;
  Region* grow(std::size_t granules, std::vector<Fresh>& fresh, Refusal& refusal);
  Leaving leave(std::size_t excess, Nanoseconds freed_before);
  void leave_granules(Region& region, std::size_t excess, Nanoseconds freed_before, Leaving& all);

  Budget budget_;
  Options options_;
  std::vector<std::unique_ptr<Region>> regions_;
  std::size_t mapped_ = 0;
  std::size_t held_ = 0;
  std::size_t peak_ = 0;
  std::size_t used_ = 0; // of held_, in granules that are taken
  std::size_t most_used_ = 0;
  std::size_t most_used_before_ = 0;
  Nanoseconds decayed_at_ = 0;
  std::array<TierStats, kTiers> tiers_;
};

} // namespace thinwire::pool
