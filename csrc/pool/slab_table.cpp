#include "pool/slab_table.hpp"

namespace thinwire::pool {

constinit std::atomic<SlabTable::Leaf*>
    SlabTable::root_[std::size_t{1} << (kAddressBits - kGranuleBits - kLeafBits)] = {};

void SlabTable::set(const std::byte* begin, std::size_t bytes, Slab* slab) {
  const std::size_t first = reinterpret_cast<std::uintptr_t>(begin) >> kGranuleBits;
  const std::size_t last = (reinterpret_cast<std::uintptr_t>(begin) + bytes - 1) >> kGranuleBits;
  for (std::size_t granule = first; granule <= last; ++granule) {
    std::atomic<Leaf*>& slot = root_[granule >> kLeafBits];
    Leaf* leaf = slot.load(std::memory_order_acquire);
    if (!leaf) { // never freed: a table of pointers for 32 GiB of addresses
      auto* fresh = new Leaf{};
      if (slot.compare_exchange_strong(leaf, fresh, std::memory_order_acq_rel))
        leaf = fresh;
      else
        delete fresh;
    }
    leaf->slabs[granule % kLeafSlots].store(slab, std::memory_order_release);
  }
}

} // namespace thinwire::pool
