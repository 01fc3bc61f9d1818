// One pool: magazines of its threads over shared lists. It lives as long as its handle or a block.
#pragma once

#include "pool/deferred_frees.hpp"
#include "pool/host_pool.hpp"
#include "pool/latency.hpp"
#include "pool/process.hpp"
#include "pool/shared_lists.hpp"
#include "pool/stream_fence.hpp"
#include "pool/thread_cache.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

namespace thinwire::pool {

class Core {
public:
  Core(const PoolOptions& options, const Surroundings& surroundings);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  const std::uint64_t id; // no other pool has or had it
  const unsigned generation;

  // From this thread's magazine; null where that is empty, and now and then.
  std::byte* allocate_cached(std::size_t size_class, std::size_t bytes) {
    const Recent& recent = recent_caches[id % kRecent];
    if (recent.core != id || size_class >= kCachedClasses || recent.cache->is_due())
      return nullptr;
    return recent.cache->allocate(size_class, bytes);
  }
  std::byte* allocate(std::size_t size_class, std::size_t bytes);

  // Ends the pool if it was the last block of one that has been closed.
  void free(Block& block) noexcept;
  void free_after(Block& block, std::vector<Wait> waits); // throws std::bad_alloc
  // What the streams have been given up to now. Throws std::bad_alloc.
  std::vector<Wait> now_in(std::span<const DeviceStream> streams);
  bool has_streams() const { return driver_ != nullptr; }

  void reserve(std::size_t bytes);
  std::size_t trim(std::size_t keep);
  std::size_t held() const { return shared_.held(); }
  PoolStats stats();
  std::vector<std::string> reasons() const;
  void settle() { shared_.settle(); }
  void end_registering() { shared_.end_registering(); }

  void thread_ends(std::uint64_t thread);
  void close(); // by its handle

private:
  static constexpr std::size_t kMostCaches = 1024;

  ThreadCache& my_cache() {
    const Recent& recent = recent_caches[id % kRecent];
    return recent.core == id ? *recent.cache : find_cache();
  }
  ThreadCache& find_cache();
  ThreadCache* cache_for(std::uint64_t thread);
  ThreadCache& cache(std::size_t number) const { return *caches_[number]; }

  std::byte* refill(ThreadCache& mine, std::size_t size_class, std::size_t bytes);
  template <class Take> Refusal take_with_room(std::size_t bytes, const Take& take);
  [[noreturn]] void exhausted(Refusal refusal, std::size_t bytes);
  void pass_by(Nanoseconds now);
  void free_passed(std::size_t most);
  void gather();
  void note_peak(std::size_t size_class);
  std::vector<ClassStats> class_stats(const ThreadCounts& counts, const SharedLists::View& view);
  ThreadCounts counts();

  Nanoseconds (*const now_)();
  CudaDriver* const driver_;
  const std::string fault_; // why there is no driver, where one was asked for
  SharedLists shared_;
  DeferredFrees deferred_;
  Latency latency_;
  std::array<std::atomic<std::uint64_t>, kClasses + 1> peaks_ = {};
  std::atomic<std::uint64_t> peak_live_ = 0;

  std::mutex streams_mutex_;
  std::map<DeviceStream, std::shared_ptr<StreamFence>> streams_;

  // Numbers of caches are owners of blocks. The first serves threads that have none of their own.
  std::mutex caches_mutex_;
  bool closed_ = false;
  std::atomic<std::size_t> cache_count_ = 0;
  std::array<std::atomic<ThreadCache*>, kMostCaches> caches_ = {};
  std::array<std::uint64_t, kMostCaches> threads_ = {}; // whose they are; 0: nobody's
};

} // namespace thinwire::pool
