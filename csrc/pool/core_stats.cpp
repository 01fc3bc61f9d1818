// What a pool says of itself.
#include "pool/core.hpp"

#include <algorithm>

namespace thinwire::pool {
namespace {

void raise_to(std::atomic<std::uint64_t>& peak, std::uint64_t value) {
  std::uint64_t before = peak.load(std::memory_order_relaxed);
  while (before < value && !peak.compare_exchange_weak(before, value, std::memory_order_relaxed)) {
  }
}

} // namespace

ThreadCounts Core::counts() {
  ThreadCounts sum;
  for (std::size_t i = 0; i < cache_count_; ++i)
    sum.add(cache(i).counts());
  return sum;
}

// While others go on, a sum may miss an allocation whose free it has seen: that is no peak.
void Core::note_peak(std::size_t size_class) {
  const ThreadCounts counts = this->counts();
  const std::uint64_t of_class = counts.live(size_class);
  const std::uint64_t of_all = counts.live();
  if (static_cast<std::int64_t>(of_class) > 0)
    raise_to(peaks_[size_class], of_class);
  if (static_cast<std::int64_t>(of_all) > 0)
    raise_to(peak_live_, of_all);
}

std::vector<ClassStats> Core::class_stats(const ThreadCounts& counts,
                                          const SharedLists::View& view) {
  std::vector<ClassStats> all;
  for (std::size_t c = 0; c <= kClasses; ++c) {
    if (counts.allocations[c] == 0)
      continue;
    const std::size_t live = counts.live(c);
    raise_to(peaks_[c], live);
    all.push_back({c == kTooLarge ? 0 : size_of(c), counts.allocations[c], live,
                   view.carved[c] - std::min(view.carved[c], live), peaks_[c]});
  }
  return all;
}

PoolStats Core::stats() {
  const ThreadCounts counts = this->counts();
  const SharedLists::View view = shared_.view();
  PoolStats stats;
  stats.limit = shared_.budget().bytes;
  stats.limited_by = shared_.budget().set_by;
  stats.held = view.held;
  stats.peak_held = view.peak_held;
  stats.live = counts.live();
  raise_to(peak_live_, stats.live);
  stats.peak_live = peak_live_;
  stats.misses = counts.misses;
  stats.remote_frees = counts.remote_frees;
  stats.requested = counts.requested;
  for (std::size_t c = 0; c <= kClasses; ++c) {
    stats.allocations += counts.allocations[c];
    stats.given += counts.allocated(c);
    stats.local_frees += counts.frees[c];
  }
  stats.local_frees -= stats.remote_frees;
  stats.latency_samples = latency_.samples();
  stats.latency_p50_ns = latency_.percentile(0.5);
  stats.latency_p99_ns = latency_.percentile(0.99);
  const DeferredFrees::Counts deferred = deferred_.counts();
  stats.deferred_frees = deferred.frees;
  stats.deferred_waiting = deferred.waiting;
  stats.deferred_waits = deferred.waits;
  const HugePageTrial::Result trial = shared_.first_touch().trial();
  stats.huge_pages = trial.huge_pages;
  stats.huge_share = count_pages(view.ranges).huge_share();
  stats.huge_bytes_per_s = trial.huge_bytes_per_s;
  stats.plain_bytes_per_s = trial.plain_bytes_per_s;
  stats.prefault_s = shared_.first_touch().seconds();
  stats.register_s = shared_.register_seconds();
  stats.tiers = view.tiers;
  stats.classes = class_stats(counts, view);
  stats.reasons = reasons();
  return stats;
}

std::vector<std::string> Core::reasons() const {
  std::vector<std::string> all = shared_.reasons();
  if (!fault_.empty())
    all.push_back(fault_);
  return all;
}

} // namespace thinwire::pool
