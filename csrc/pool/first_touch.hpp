// The first use of memory: pages are made by several threads, huge ones where they are worth it,
// and locked where that is asked for.
#pragma once

#include "pool/huge_pages.hpp"
#include "pool/region.hpp"

#include <atomic>
#include <cstddef>

namespace thinwire::pool {

// A stretch of an extent that counts as held, but has not been touched.
struct Fresh {
  Extent extent;
  std::size_t from = 0;
  std::size_t to = 0;
};

// Makes the pages of memory without changing what is in them. The kernel may refuse: then they are
// made when they are used.
void populate(Range memory, unsigned threads);

class FirstTouch {
public:
  FirstTouch(bool huge_pages, bool lock, unsigned threads)
      : trial_(huge_pages), wants_lock_(lock), threads_(threads) {}

  bool wants_huge_pages() const { return trial_.next().huge; }
  // Also sets the tier of its granules. By several threads at once.
  void touch(const Fresh& fresh);

  HugePageTrial::Result trial() const { return trial_.result(); }
  double seconds() const { return static_cast<double>(nanoseconds_.load()) * 1e-9; }
  bool refused_huge_pages() const { return refused_; }
  bool refused_lock() const { return lock_refused_; }

private:
  std::size_t touch_granules(const Extent& extent, std::size_t first, std::size_t count);
  void touch_part(const Extent& extent, std::size_t from, std::size_t to);
  bool lock(Range memory);

  HugePageTrial trial_;
  const bool wants_lock_;
  const unsigned threads_;
  std::atomic<Nanoseconds> nanoseconds_ = 0;
  std::atomic<bool> refused_ = false;
  std::atomic<bool> lock_refused_ = false;
};

} // namespace thinwire::pool
