// How long calls take: counts by time, four steps a doubling.
#pragma once

#include "pool/region.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace thinwire::pool {

class Latency {
public:
  void record(Nanoseconds taken) { ++counts_[step_of(taken)]; }

  std::uint64_t samples() const {
    std::uint64_t sum = 0;
    for (const auto& count : counts_)
      sum += count;
    return sum;
  }

  // The time that a share of the calls did not exceed; 0 without samples.
  double percentile(double share) const {
    const double wanted = share * static_cast<double>(samples());
    double sum = 0;
    for (std::size_t step = 0; step < counts_.size(); ++step) {
      sum += static_cast<double>(counts_[step]);
      if (sum > 0 && sum >= wanted)
        return upper_end(step);
    }
    return 0;
  }

private:
  static constexpr std::size_t kLinear = 4; // 0 to 3 ns

  static std::size_t step_of(Nanoseconds taken) {
    if (taken < kLinear)
      return taken;
    const auto doubling = static_cast<std::size_t>(std::bit_width(taken)) - 1; // at least 2
    return 4 * (doubling - 1) + (taken >> (doubling - 2)) % 4;
  }

  static double upper_end(std::size_t step) {
    if (step < kLinear)
      return static_cast<double>(step);
    return static_cast<double>((5 + step % 4) * (Nanoseconds{1} << (step / 4 - 1)) - 1);
  }

  std::array<std::atomic<std::uint64_t>, 4 * 63> counts_ = {};
};

} // namespace thinwire::pool
