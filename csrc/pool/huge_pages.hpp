// Whether huge pages are worth having here.
#pragma once

#include <cstddef>
#include <mutex>
#include <span>
#include <utility>

namespace thinwire::pool {

using Range = std::span<std::byte>;

struct PageCounts {
  std::size_t resident = 0; // bytes
  std::size_t huge = 0;

  double huge_share() const {
    return resident == 0 ? 0 : static_cast<double>(huge) / static_cast<double>(resident);
  }
};

// What the kernel reports (/proc/self/smaps) of the mappings that lie in these ranges.
PageCounts count_pages(std::span<const Range> ranges);

// The first 64 MiB of a pool are the trial: one half is touched as huge pages, the other as plain
// ones. The slower way is dropped. Huge pages that the kernel does not give are dropped at once.
class HugePageTrial {
public:
  static constexpr std::size_t kHalf = std::size_t{32} << 20;

  explicit HugePageTrial(bool wanted) : phase_(wanted ? Phase::huge : Phase::plain_for_good) {}

  struct Step {
    bool huge;
    std::size_t most; // bytes to touch before the next step is asked for
    bool read_back;   // whether to say what the kernel made of it
  };
  Step next() const;
  // What was touched as the step said.
  void record(const Step& step, std::size_t bytes, double seconds);
  void refuse(); // the kernel gave plain pages

  struct Result {
    bool huge_pages;
    double huge_bytes_per_s;
    double plain_bytes_per_s;
  };
  Result result() const;

private:
  enum class Phase { huge, plain, huge_for_good, plain_for_good };
  struct Tally {
    std::size_t bytes = 0;
    double seconds = 0;
    double rate() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
  };

  mutable std::mutex mutex_;
  Phase phase_;
  bool read_back_ = true;
  Tally huge_;
  Tally plain_;
};

} // namespace thinwire::pool
