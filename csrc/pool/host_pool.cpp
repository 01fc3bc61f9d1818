#include "pool/host_pool.hpp"

#include "pool/core.hpp"

#include <bit>
#include <new>
#include <vector>

namespace thinwire {
namespace {

using pool::Core;
using pool::Slab;

constexpr std::size_t kMostBytes = std::size_t{1} << 47; // no machine has as much

// The class of a block. Throws InvalidArgument and PoolExhausted for what no pool can give.
std::size_t class_for(std::size_t bytes, std::size_t alignment) {
  if (!std::has_single_bit(alignment) || alignment > pool::kGranule)
    throw InvalidArgument("alignment " + std::to_string(alignment) +
                          " is not a power of two up to 2 MiB");
  if (bytes > kMostBytes)
    throw PoolExhausted(std::to_string(bytes) + " bytes are more than a machine has");
  return pool::class_of(bytes, alignment);
}

const Slab& slab_of(const std::byte* block) { return *pool::SlabTable::find(block); }

// Of a block of the parent, a forked child changes nothing.
bool is_of_parent(const Slab& slab) { return slab.core->generation != pool::generation(); }

// No object: the guard of its construction could be locked for ever in a forked child.
constinit std::atomic<HostPool*> shared_pool = nullptr;

} // namespace

HostPool::HostPool(const PoolOptions& options, const Surroundings& surroundings)
    : options_(options), surroundings_(surroundings), core_(new Core(options, surroundings)) {}

HostPool::~HostPool() {
  Core* core = core_.load();
  if (core->generation == pool::generation())
    core->close();
}

HostPool& HostPool::shared() {
  HostPool* current = shared_pool.load(std::memory_order_acquire);
  if (current)
    return *current;
  auto* fresh = new HostPool({});
  if (shared_pool.compare_exchange_strong(current, fresh))
    return *fresh;
  delete fresh;
  return *current;
}

void HostPool::end_registering() {
  HostPool* pool = shared_pool.load(std::memory_order_acquire);
  if (!pool)
    return;
  Core* core = pool->core_.load(std::memory_order_acquire);
  if (core->generation == pool::generation()) // a child's registers nothing
    core->end_registering();
}

Core& HostPool::core() const {
  Core* core = core_.load(std::memory_order_acquire);
  return core->generation == pool::generation() ? *core : renew(core);
}

// The child's memory is plain: what is locked or registered is not inherited.
Core& HostPool::renew(Core* of_parent) const {
  PoolOptions options = options_;
  options.huge_pages = options.lock = options.register_with_cuda = false;
  options.threads = 1;
  auto* fresh = new Core(options, {.now = surroundings_.now});
  if (core_.compare_exchange_strong(of_parent, fresh))
    return *fresh;
  fresh->close(); // another thread was first
  return *of_parent;
}

std::byte* HostPool::allocate(std::size_t bytes, std::size_t alignment) {
  const std::size_t size_class = class_for(bytes, alignment);
  Core& core = this->core();
  std::byte* block = core.allocate_cached(size_class, bytes);
  return block ? block : core.allocate(size_class, bytes);
}

std::byte* HostPool::allocate_cached(std::size_t bytes, std::size_t alignment) {
  return core().allocate_cached(class_for(bytes, alignment), bytes);
}

std::byte* HostPool::allocate_uncached(std::size_t bytes, std::size_t alignment) {
  return core().allocate(class_for(bytes, alignment), bytes);
}

void HostPool::free(std::byte* memory) noexcept {
  const Slab& slab = slab_of(memory);
  if (!is_of_parent(slab))
    slab.core->free(slab.block_at(memory));
}

void HostPool::free_after(std::byte* memory, std::shared_ptr<Fence> fence,
                          std::uint64_t value) noexcept {
  const Slab& slab = slab_of(memory);
  if (is_of_parent(slab))
    return;
  if (fence->reached(value))
    return slab.core->free(slab.block_at(memory));
  try {
    slab.core->free_after(slab.block_at(memory), {{std::move(fence), value}});
  } catch (const std::bad_alloc&) {
    // Better lost than used too early.
  }
}

void HostPool::free_after_streams(std::byte* memory,
                                  std::span<const DeviceStream> streams) noexcept {
  const Slab& slab = slab_of(memory);
  if (is_of_parent(slab))
    return;
  try {
    slab.core->free_after(slab.block_at(memory), slab.core->now_in(streams));
  } catch (const std::bad_alloc&) {
    // Better lost than used too early.
  }
}

bool HostPool::has_streams() const { return core().has_streams(); }

Tier HostPool::tier(const std::byte* block) const {
  const Slab& slab = slab_of(block);
  return slab.extent.tier_of(block, slab.block_bytes);
}

std::size_t HostPool::usable(const std::byte* block) const { return slab_of(block).block_bytes; }

void HostPool::reserve(std::size_t bytes) { core().reserve(bytes); }

std::size_t HostPool::trim(std::size_t keep) { return core().trim(keep); }

void HostPool::settle() { core().settle(); }

std::size_t HostPool::held() const { return core().held(); }

PoolStats HostPool::stats() const { return core().stats(); }

std::vector<std::string> HostPool::reasons() const { return core().reasons(); }

} // namespace thinwire
