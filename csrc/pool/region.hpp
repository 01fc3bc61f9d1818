// Memory mapped at once, in granules of 2 MiB that are taken and given back.
#pragma once

#include "pool/slab_table.hpp"
#include "pool/tier.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace thinwire::pool {

using Nanoseconds = std::uint64_t;

struct Granule {
  bool used = false;
  std::uint32_t committed = 0; // bytes from its start that are counted as held
  Nanoseconds freed_at = 0;
  std::atomic<std::uint32_t> locked = 0; // bytes of those; the others too may be on locked pages
  std::atomic<Tier> tier = Tier::plain;
};

class Region {
public:
  enum class Pin : std::uint8_t { none, wanted, done };

  // Maps `granules`, on the memory node of the calling thread. Null where the system refuses.
  static std::unique_ptr<Region> map(std::size_t granules, bool hide_from_children);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  std::byte* begin() const { return begin_; }
  std::size_t size() const { return size_; } // granules
  std::size_t bytes() const { return size_ * kGranule; }
  std::byte* at(std::size_t granule) const { return begin_ + granule * kGranule; }
  Granule& operator[](std::size_t granule) const { return granules_[granule]; }

  // The first of `count` granules in a row that are free, and wholly committed where that is asked.
  std::optional<std::size_t> find(std::size_t count, bool committed) const;

  Pin pin = Pin::none;

private:
  Region(std::byte* begin, std::size_t size)
      : begin_(begin), size_(size), granules_(std::make_unique<Granule[]>(size)) {}

  std::byte* begin_;
  std::size_t size_;
  std::unique_ptr<Granule[]> granules_;
};

// Granules of a region that belong together.
struct Extent {
  Region* region = nullptr;
  std::size_t first = 0;
  std::size_t granules = 0;

  std::byte* begin() const { return region->at(first); }
  std::size_t bytes() const { return granules * kGranule; }
  Granule& operator[](std::size_t i) const { return (*region)[first + i]; }
  // The lowest of a block's granules; of one that ends as plain pages, that of the huge ones.
  Tier tier_of(const std::byte* block, std::size_t bytes) const;
};

} // namespace thinwire::pool
