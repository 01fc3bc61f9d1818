#include "pool/shared_lists.hpp"

#include "pool/memory_lock.hpp"
#include "pool/slab_table.hpp"

#include <algorithm>
#include <memory>
#include <new>
#include <sys/mman.h>

namespace thinwire::pool {
namespace {

constexpr std::size_t kSmallestCommit = std::size_t{64} << 10; // of small blocks at a time

// How a slab is cut: as few granules as leave no more than a sixteenth unused.
struct Cut {
  std::size_t granules;
  std::size_t blocks;
};

Cut cut_of(std::size_t block_bytes) {
  for (std::size_t granules = (block_bytes + kGranule - 1) / kGranule;; ++granules) {
    const std::size_t bytes = granules * kGranule;
    if (bytes % block_bytes <= bytes / 16)
      return {granules, bytes / block_bytes};
  }
}

void unlock(const Extent& extent) {
  std::size_t locked = 0;
  for (std::size_t i = 0; i < extent.granules; ++i)
    locked += extent[i].locked.exchange(0);
  if (locked > 0)
    unlock_memory({extent.begin(), extent.bytes()}, locked);
}

} // namespace

SharedLists::SharedLists(Core& core, const Options& options)
    : core_(core), heap_(options.budget, options.heap),
      first_touch_(options.huge_pages, options.lock, options.threads) {
  if (options.driver)
    registrar_.emplace(*options.driver, [this](Region& region, const std::string& failure) {
      registered(region, failure);
    });
}

SharedLists::~SharedLists() {
  settle();
  trim(0); // no block is out: all of it
}

Refusal SharedLists::take(std::size_t size_class, std::size_t bytes, std::size_t count, Owner owner,
                          FreeList& blocks) {
  std::vector<Fresh> fresh;
  {
    const std::lock_guard lock(mutex_);
    Slab* slab = nullptr;
    const Refusal refusal = find_slab(size_class, bytes, slab, fresh);
    if (refusal != Refusal::none)
      return refusal;
    while (!slab->free.empty() && blocks.size() < count)
      blocks.push(slab->free.pop());
    if (blocks.empty())
      carve(*slab, count, blocks, fresh);
    if (blocks.empty()) {
      if (slab->used == 0)
        retire(*slab, 0);
      return Refusal::limit;
    }
    slab->used += blocks.size();
    out_ += blocks.size();
    if (!slab->has_room())
      unlink(*slab);
  }
  touch(fresh); // others may go on meanwhile
  blocks.for_each([owner](Block& block) { block.owner = owner; });
  return Refusal::none;
}

Refusal SharedLists::find_slab(std::size_t size_class, std::size_t bytes, Slab*& slab,
                               std::vector<Fresh>& fresh) {
  slab = classes_[size_class].with_room;
  if (slab)
    return Refusal::none;
  const bool alone = size_class == kTooLarge;
  const std::size_t block_bytes = alone ? round_up(bytes, kPage) : size_of(size_class);
  const std::size_t least = (block_bytes + kGranule - 1) / kGranule;
  const Cut cut = alone ? Cut{least, 1} : cut_of(block_bytes);
  const Refusal refusal = new_slab(size_class, block_bytes, cut.granules, cut.blocks, slab, fresh);
  if (refusal == Refusal::none || cut.granules == least)
    return refusal;
  return new_slab(size_class, block_bytes, least, least * kGranule / block_bytes, slab, fresh);
}

Refusal SharedLists::new_slab(std::size_t size_class, std::size_t block_bytes, std::size_t granules,
                              std::size_t blocks, Slab*& slab, std::vector<Fresh>& fresh) {
  auto refusal = Refusal::none;
  const auto extent = heap_.take(granules, fresh, refusal);
  if (!extent)
    return refusal;
  try {
    auto made = std::make_unique<Slab>(core_, *extent, size_class, block_bytes, blocks);
    SlabTable::set(made->memory, extent->bytes(), made.get());
    slab = made.release();
  } catch (const std::bad_alloc&) {
    heap_.give(*extent, 0);
    throw;
  }
  link(*slab);
  return Refusal::none;
}

// Counts what `blocks` more of a slab need; with huge pages, up to the end of the last.
bool SharedLists::commit(const Slab& slab, std::size_t blocks, std::vector<Fresh>& fresh) {
  const std::size_t step = first_touch_.wants_huge_pages() ? kGranule : kSmallestCommit;
  const std::size_t from = slab.carved * slab.block_bytes;
  const std::size_t to = round_up(from + blocks * slab.block_bytes, kPage);
  const std::size_t end = round_up(slab.size * slab.block_bytes, kPage);
  return heap_.commit(slab.extent, from, std::min(round_up(to, step), end), fresh) ||
         heap_.commit(slab.extent, from, to, fresh);
}

void SharedLists::carve(Slab& slab, std::size_t count, FreeList& blocks,
                        std::vector<Fresh>& fresh) {
  const std::size_t few = std::max<std::size_t>(1, kSmallestCommit / slab.block_bytes);
  count = std::min({count, few, slab.size - slab.carved});
  if (!commit(slab, count, fresh)) {
    count = 1;
    if (!commit(slab, count, fresh))
      return;
  }
  for (std::size_t i = slab.carved + count; i-- > slab.carved;) {
    std::byte* memory = slab.memory + i * slab.block_bytes;
    blocks.push(new (&slab.blocks[i]) Block{nullptr, memory, &slab, 0});
  }
  slab.carved += count;
  classes_[slab.size_class].carved += count * slab.block_bytes;
}

void SharedLists::touch(const std::vector<Fresh>& fresh) {
  if (fresh.empty())
    return;
  std::size_t bytes = 0;
  for (const Fresh& part : fresh) {
    first_touch_.touch(part);
    bytes += part.to - part.from;
  }
  if (bytes < kGranule)
    return;
  std::vector<Region*> to_register;
  {
    const std::lock_guard lock(mutex_);
    heap_.tiers();                  // for their peaks
    for (const Fresh& part : fresh) // a region that wants it is all in one part
      if (part.extent.region->pin == Region::Pin::wanted)
        to_register.push_back(part.extent.region);
  }
  for (Region* region : to_register)
    registrar_->add(*region);
}

void SharedLists::registered(Region& region, const std::string& failure) {
  const std::lock_guard lock(mutex_);
  region.pin = failure.empty() ? Region::Pin::done : Region::Pin::none;
  if (failure.empty())
    for (std::size_t i = 0; i < region.size(); ++i)
      region[i].tier = Tier::registered;
  else
    failures_.push_back("CUDA did not register " + std::to_string(region.bytes() / kMiB) +
                        " MiB: " + failure);
}

bool SharedLists::give(FreeList& blocks, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  out_ -= blocks.size();
  while (Block* block = blocks.pop()) {
    Slab& slab = *block->slab;
    if (!slab.has_room())
      link(slab);
    slab.free.push(block);
    if (--slab.used == 0)
      retire(slab, now);
  }
  return closed_ && out_ == 0;
}

bool SharedLists::close() {
  settle();
  const std::lock_guard lock(mutex_);
  closed_ = true;
  return out_ == 0;
}

void SharedLists::link(Slab& slab) {
  Slab*& first = classes_[slab.size_class].with_room;
  slab.previous = nullptr;
  slab.next = first;
  if (first)
    first->previous = &slab;
  first = &slab;
}

void SharedLists::unlink(Slab& slab) {
  (slab.previous ? slab.previous->next : classes_[slab.size_class].with_room) = slab.next;
  if (slab.next)
    slab.next->previous = slab.previous;
}

// Its memory is there for all classes again.
void SharedLists::retire(Slab& slab, Nanoseconds now) {
  unlink(slab);
  classes_[slab.size_class].carved -= slab.carved * slab.block_bytes;
  SlabTable::set(slab.memory, slab.extent.bytes(), nullptr);
  heap_.give(slab.extent, now);
  delete &slab;
}

Refusal SharedLists::reserve(std::size_t bytes, Nanoseconds now) {
  const std::size_t most = registrar_ ? Heap::kLargestStep : bytes; // one range, if it may be
  std::vector<Extent> taken;
  std::vector<Fresh> fresh;
  auto refusal = Refusal::none;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t done = 0; done < bytes && refusal == Refusal::none; done += most) {
      const std::size_t part = std::min(most, bytes - done);
      const auto extent = heap_.take((part + kGranule - 1) / kGranule, fresh, refusal);
      if (!extent)
        break;
      taken.push_back(*extent);
      if (!heap_.commit(*extent, 0, round_up(part, kPage), fresh))
        refusal = Refusal::limit;
    }
    if (refusal == Refusal::none)
      heap_.reserved = std::max(heap_.reserved, bytes);
  }
  touch(fresh);
  const std::lock_guard lock(mutex_);
  for (const Extent& extent : taken)
    heap_.give(extent, now);
  return refusal;
}

std::size_t SharedLists::trim(std::size_t keep) {
  const std::lock_guard letting_go(letting_go_);
  std::unique_lock lock(mutex_);
  Leaving leaving = heap_.leave(keep);
  lock.unlock();
  return let_go(std::move(leaving));
}

bool SharedLists::is_decay_due(Nanoseconds now) const {
  const std::lock_guard lock(mutex_);
  return heap_.is_decay_due(now);
}

void SharedLists::decay(Nanoseconds now) {
  const std::lock_guard letting_go(letting_go_);
  std::unique_lock lock(mutex_);
  Leaving leaving = heap_.decay(now);
  lock.unlock();
  let_go(std::move(leaving));
}

// Not under the lock: to give back gigabytes takes long.
std::size_t SharedLists::let_go(Leaving leaving) {
  if (leaving.bytes == 0 && leaving.regions.empty())
    return 0;
  for (const auto& region : leaving.regions) {
    if (region->pin == Region::Pin::done)
      registrar_->release(*region);
    unlock({region.get(), 0, region->size()});
  }
  for (const Extent& extent : leaving.extents) {
    unlock(extent);
    madvise(extent.begin(), extent.bytes(), MADV_DONTNEED);
  }
  const std::lock_guard lock(mutex_);
  heap_.left(leaving);
  return leaving.bytes;
}

void SharedLists::settle() {
  if (registrar_)
    registrar_->settle();
}

void SharedLists::end_registering() {
  if (registrar_)
    registrar_->end();
}

SharedLists::View SharedLists::view() {
  const std::lock_guard lock(mutex_);
  View view{heap_.held(), heap_.peak(), heap_.tiers(), {}, heap_.ranges()};
  for (std::size_t c = 0; c < classes_.size(); ++c)
    view.carved[c] = classes_[c].carved;
  return view;
}

std::vector<std::string> SharedLists::reasons() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> all = failures_;
  if (first_touch_.refused_huge_pages())
    all.push_back("the kernel gives no huge pages (look at "
                  "/sys/kernel/mm/transparent_hugepage/enabled)");
  if (first_touch_.refused_lock())
    all.push_back("RLIMIT_MEMLOCK does not allow to lock more: raise ulimit -l");
  return all;
}

std::size_t SharedLists::held() const {
  const std::lock_guard lock(mutex_);
  return heap_.held();
}

} // namespace thinwire::pool
