#include "pool/huge_pages.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>

namespace thinwire::pool {
namespace {

bool lies_in(std::uintptr_t address, const Range& range) {
  const auto begin = reinterpret_cast<std::uintptr_t>(range.data());
  return address >= begin && address < begin + range.size();
}

} // namespace

PageCounts count_pages(std::span<const Range> ranges) {
  std::ifstream file("/proc/self/smaps");
  PageCounts counts;
  bool ours = false;
  for (std::string line; std::getline(file, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    std::size_t kib = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2)
      ours = std::any_of(ranges.begin(), ranges.end(),
                         [begin](const Range& range) { return lies_in(begin, range); });
    else if (ours && std::sscanf(line.c_str(), "Rss: %zu kB", &kib) == 1)
      counts.resident += kib * 1024;
    else if (ours && std::sscanf(line.c_str(), "AnonHugePages: %zu kB", &kib) == 1)
      counts.huge += kib * 1024;
  }
  return counts;
}

HugePageTrial::Step HugePageTrial::next() const {
  const std::lock_guard lock(mutex_);
  constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
  switch (phase_) {
  case Phase::huge:
    return {true, kHalf - huge_.bytes, read_back_};
  case Phase::plain:
    return {false, kHalf - plain_.bytes, false};
  case Phase::huge_for_good:
    return {true, kAll, false};
  default:
    return {false, kAll, false};
  }
}

void HugePageTrial::record(const Step& step, std::size_t bytes, double seconds) {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::huge && phase_ != Phase::plain)
    return;
  if (step.read_back)
    read_back_ = false;
  Tally& tally = step.huge ? huge_ : plain_;
  tally.bytes += bytes;
  tally.seconds += seconds;
  if (phase_ == Phase::huge && huge_.bytes >= kHalf)
    phase_ = Phase::plain;
  if (phase_ == Phase::plain && plain_.bytes >= kHalf)
    phase_ = huge_.rate() >= plain_.rate() ? Phase::huge_for_good : Phase::plain_for_good;
}

void HugePageTrial::refuse() {
  const std::lock_guard lock(mutex_);
  phase_ = Phase::plain_for_good;
}

HugePageTrial::Result HugePageTrial::result() const {
  const std::lock_guard lock(mutex_);
  return {phase_ == Phase::huge || phase_ == Phase::huge_for_good, huge_.rate(), plain_.rate()};
}

} // namespace thinwire::pool
