#include "pool/core.hpp"

#include "core/parallel.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <new>

namespace thinwire::pool {
namespace {

constexpr std::size_t kSomePassed = 16; // deferred frees of a queue that one allocation does
constexpr unsigned kTries = 8;          // where other threads take what one has made room for
constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
constexpr unsigned kTouchingThreads = 4; // more gain little with huge pages

constinit std::atomic<std::uint64_t> cores_made = 0;

SharedLists::Options shared_options(const PoolOptions& options, CudaDriver* driver) {
  const unsigned threads =
      options.threads != 0 ? options.threads : std::min(kTouchingThreads, thread_count(0));
  const Heap::Options heap = {driver != nullptr, options.hide_from_children,
                              static_cast<Nanoseconds>(options.decay_s * 1e9)};
  return {budget(options.limit), heap, options.huge_pages, options.lock, threads, driver};
}

CudaDriver* driver_of(const PoolOptions& options, const Surroundings& surroundings) {
  if (!options.register_with_cuda)
    return nullptr;
  return surroundings.driver ? surroundings.driver : cuda_driver();
}

std::string fault_of(const PoolOptions& options, const Surroundings& surroundings) {
  if (driver_of(options, surroundings) || !options.register_with_cuda)
    return "";
  return surroundings.cuda_fault ? surroundings.cuda_fault() : cuda_fault();
}

Nanoseconds steady_now() {
  return static_cast<Nanoseconds>(std::chrono::steady_clock::now().time_since_epoch() /
                                  std::chrono::nanoseconds(1));
}

// How many blocks a magazine asks for at a time.
std::size_t refill_of(std::size_t size_class) {
  return size_class < kCachedClasses ? capacity_of(size_class) / 2 : 1;
}

std::string mebibytes(std::size_t bytes) {
  return std::to_string(bytes / kMiB) + "." + std::to_string(bytes % kMiB * 10 / kMiB) + " MiB";
}

} // namespace

Core::Core(const PoolOptions& options, const Surroundings& surroundings)
    : id(++cores_made), generation(pool::generation()),
      now_(surroundings.now ? surroundings.now : &steady_now),
      driver_(driver_of(options, surroundings)), fault_(fault_of(options, surroundings)),
      shared_(*this, shared_options(options, driver_)) {
  caches_[0] = new ThreadCache(0);
  cache(0).open();
  cache_count_ = 1;
  Cores::get().add(*this);
}

Core::~Core() {
  for (const auto& cache : caches_)
    delete cache.load();
}

std::byte* Core::allocate(std::size_t size_class, std::size_t bytes) {
  const Nanoseconds begun = now_();
  ThreadCache& mine = my_cache();
  const bool timed = mine.was_due();
  pass_by(begun);
  std::byte* block = nullptr;
  if (size_class < kCachedClasses)
    block = mine.allocate(size_class, bytes);
  if (!block)
    block = refill(mine, size_class, bytes);
  if (timed)
    latency_.record(now_() - begun);
  return block;
}

std::byte* Core::refill(ThreadCache& mine, std::size_t size_class, std::size_t bytes) {
  FreeList blocks;
  const std::size_t size = size_class == kTooLarge ? round_up(bytes, kPage) : size_of(size_class);
  const Refusal refusal = take_with_room(size, [&] {
    return shared_.take(size_class, bytes, refill_of(size_class), mine.number, blocks);
  });
  if (refusal != Refusal::none)
    exhausted(refusal, bytes);
  std::byte* block = mine.fill(size_class, size, bytes, blocks);
  if (!blocks.empty())
    shared_.give(blocks, now_());
  note_peak(size_class);
  return block;
}

// Before it gives up: what lies in magazines, then what is free in other sizes.
template <class Take> Refusal Core::take_with_room(std::size_t bytes, const Take& take) {
  Refusal refusal = take();
  const std::size_t most = shared_.budget().bytes;
  if (refusal == Refusal::none || bytes > most)
    return refusal;
  const std::size_t keep = most - std::min(most, round_up(bytes, kGranule));
  gather();
  refusal = take();
  for (unsigned i = 0; refusal != Refusal::none && i < kTries; ++i) {
    const bool made_room = shared_.trim(keep) > 0;
    refusal = take();
    if (refusal == Refusal::none || (i > 0 && !made_room))
      break;
    gather();
  }
  return refusal;
}

void Core::exhausted(Refusal refusal, std::size_t bytes) {
  if (refusal == Refusal::system)
    throw PoolExhausted("the system has no " + mebibytes(bytes) +
                        " of addresses in a row: free blocks, or raise ulimit -v");
  const Budget& limit = shared_.budget();
  throw PoolExhausted("the pool's limit of " + mebibytes(limit.bytes) + " (set by " + limit.set_by +
                      ") is reached: " + mebibytes(counts().live()) + " are in use, " +
                      mebibytes(shared_.held()) + " held, " + mebibytes(bytes) +
                      " asked for; free blocks, or make the pool with a larger limit");
}

void Core::free(Block& block) noexcept {
  const Slab& slab = *block.slab;
  const std::size_t size_class = slab.size_class;
  ThreadCache& mine = my_cache();
  FreeList surplus;
  if (size_class >= kCachedClasses) {
    mine.count_free(size_class, slab.block_bytes);
    surplus.push(&block);
  } else if (block.owner != mine.number) {
    mine.count_remote_free(size_class);
    if (cache(block.owner).free_remotely(size_class, &block))
      return; // from here on the pool may have ended
    surplus.push(&block);
  } else if (!mine.free(size_class, &block, surplus)) {
    mine.count_free(size_class, slab.block_bytes);
    surplus.push(&block);
  }
  if (!surplus.empty() && shared_.give(surplus, now_()))
    delete this;
}

void Core::free_after(Block& block, std::vector<Wait> waits) {
  if (waits.empty())
    free(block);
  else
    deferred_.add(&block, std::move(waits));
}

std::vector<Wait> Core::now_in(std::span<const DeviceStream> streams) {
  std::vector<Wait> waits;
  if (driver_ == nullptr)
    return waits;
  const std::lock_guard lock(streams_mutex_);
  for (const DeviceStream& stream : streams) {
    if (!driver_->is_used(stream.device))
      continue;
    std::shared_ptr<StreamFence>& fence = streams_[stream];
    if (!fence)
      fence = std::make_shared<StreamFence>(*driver_, stream);
    waits.push_back({fence, fence->next()});
  }
  return waits;
}

void Core::pass_by(Nanoseconds now) {
  if (!deferred_.empty())
    free_passed(kSomePassed);
  if (shared_.is_decay_due(now)) {
    gather(); // nothing of a size that is not in use any more stays in a magazine
    shared_.decay(now);
  }
}

void Core::free_passed(std::size_t most) {
  for (Block* block : deferred_.passed(most))
    free(*block);
}

// All free blocks go to the shared lists.
void Core::gather() {
  free_passed(kAll);
  FreeList blocks;
  for (std::size_t i = 0; i < cache_count_; ++i)
    cache(i).empty(blocks);
  shared_.give(blocks, now_());
}

void Core::reserve(std::size_t bytes) {
  const Refusal refusal = take_with_room(bytes, [&] { return shared_.reserve(bytes, now_()); });
  if (refusal != Refusal::none)
    exhausted(refusal, bytes);
}

std::size_t Core::trim(std::size_t keep) {
  gather();
  return shared_.trim(keep);
}

ThreadCache& Core::find_cache() {
  const std::uint64_t thread = this_thread();
  if (thread == 0)
    return cache(0);
  const std::lock_guard lock(caches_mutex_);
  ThreadCache* found = cache_for(thread);
  if (!found)
    return cache(0);
  recent_caches[id % kRecent] = {id, found};
  return *found;
}

// The one the thread has, one that nobody has any more, or a new one.
ThreadCache* Core::cache_for(std::uint64_t thread) {
  const std::size_t count = cache_count_;
  const auto mine = std::find(&threads_[1], &threads_[0] + count, thread);
  if (mine != &threads_[0] + count)
    return caches_[static_cast<std::size_t>(mine - &threads_[0])];
  if (closed_)
    return nullptr;
  const auto place = std::find(&threads_[1], &threads_[0] + count, std::uint64_t{0});
  const auto number = static_cast<std::size_t>(place - &threads_[0]);
  if (number == kMostCaches)
    return nullptr;
  if (number == count) {
    caches_[number] = new (std::nothrow) ThreadCache(static_cast<Owner>(number));
    if (!caches_[number].load())
      return nullptr;
    cache_count_ = count + 1;
  }
  threads_[number] = thread;
  cache(number).open();
  return caches_[number];
}

void Core::thread_ends(std::uint64_t thread) {
  FreeList blocks;
  {
    const std::lock_guard lock(caches_mutex_);
    const auto mine = std::find(&threads_[1], &threads_[0] + cache_count_, thread);
    if (mine == &threads_[0] + cache_count_)
      return;
    cache(static_cast<std::size_t>(mine - &threads_[0])).close(blocks);
    *mine = 0;
  }
  shared_.give(blocks, now_());
}

void Core::close() {
  Cores::get().remove(*this);
  deferred_.settle();
  gather();
  FreeList blocks;
  {
    const std::lock_guard lock(caches_mutex_);
    closed_ = true;
    for (std::size_t i = 0; i < cache_count_; ++i)
      cache(i).close(blocks);
  }
  shared_.give(blocks, now_());
  if (shared_.close())
    delete this;
}

} // namespace thinwire::pool
