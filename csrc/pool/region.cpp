#include "pool/region.hpp"

#include "pool/numa.hpp"

#include <algorithm>
#include <sys/mman.h>

namespace thinwire::pool {

std::unique_ptr<Region> Region::map(std::size_t granules, bool hide_from_children) {
  const std::size_t bytes = granules * kGranule;
  const std::size_t mapped = bytes + kGranule; // room to begin at a multiple
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return nullptr;
  auto* first = static_cast<std::byte*>(memory);
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(first) % kGranule;
  const std::size_t before = offset == 0 ? 0 : kGranule - offset;
  if (before > 0)
    munmap(first, before);
  munmap(first + before + bytes, kGranule - before);
  std::byte* begin = first + before;
  if (!SlabTable::covers(begin + bytes)) {
    munmap(begin, bytes);
    return nullptr;
  }
  madvise(begin, bytes, MADV_NOHUGEPAGE); // only where they are asked for
  if (hide_from_children)
    madvise(begin, bytes, MADV_DONTFORK);
  prefer_this_node(begin, bytes);
  return std::unique_ptr<Region>(new Region(begin, granules));
}

Region::~Region() { munmap(begin_, bytes()); }

std::optional<std::size_t> Region::find(std::size_t count, bool committed) const {
  std::size_t found = 0;
  for (std::size_t i = 0; i < size_; ++i) {
    const Granule& g = granules_[i];
    found = g.used || (committed && g.committed < kGranule) ? 0 : found + 1;
    if (found == count)
      return i + 1 - count;
  }
  return std::nullopt;
}

Tier Extent::tier_of(const std::byte* block, std::size_t bytes) const {
  const auto offset = static_cast<std::size_t>(block - begin());
  const std::size_t first = offset / kGranule;
  const std::size_t last = (offset + bytes - 1) / kGranule;
  Tier lowest = (*this)[first].tier;
  for (std::size_t i = first + 1; i < last; ++i)
    lowest = std::min(lowest, (*this)[i].tier.load());
  const bool ends_plain = (offset + bytes) % kGranule != 0 && last == granules - 1;
  if (last > first && !(ends_plain && lowest == Tier::huge))
    lowest = std::min(lowest, (*this)[last].tier.load());
  return lowest;
}

} // namespace thinwire::pool
