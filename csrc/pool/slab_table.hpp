// From the address of a block to its slab, without a lock. One table for all pools.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace thinwire::pool {

struct Slab;

inline constexpr std::size_t kGranuleBits = 21; // slabs begin at multiples of 2 MiB
inline constexpr std::size_t kGranule = std::size_t{1} << kGranuleBits;

class SlabTable {
public:
  // Whether addresses up to `end` have a place in it.
  static bool covers(const std::byte* end) {
    return reinterpret_cast<std::uintptr_t>(end) >> kAddressBits == 0;
  }

  // Throws std::bad_alloc.
  static void set(const std::byte* begin, std::size_t bytes, Slab* slab);

  static Slab* find(const std::byte* address) {
    const std::size_t granule = reinterpret_cast<std::uintptr_t>(address) >> kGranuleBits;
    const Leaf* leaf = root_[granule >> kLeafBits].load(std::memory_order_acquire);
    return leaf ? leaf->slabs[granule % kLeafSlots].load(std::memory_order_acquire) : nullptr;
  }

private:
  static constexpr std::size_t kAddressBits = 48;
  static constexpr std::size_t kLeafBits = 14;
  static constexpr std::size_t kLeafSlots = std::size_t{1} << kLeafBits;

  struct Leaf {
    std::atomic<Slab*> slabs[kLeafSlots];
  };

  static std::atomic<Leaf*> root_[std::size_t{1} << (kAddressBits - kGranuleBits - kLeafBits)];
};

} // namespace thinwire::pool
