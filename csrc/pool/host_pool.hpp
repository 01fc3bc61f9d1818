// Host memory that is reused: size classes, magazines of threads, huge pages, locked or registered
// memory where it is to be had.
#pragma once

#include "core/error.hpp"
#include "pool/device_stream.hpp"
#include "pool/fence.hpp"
#include "pool/pool_stats.hpp"
#include "pool/tier.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace thinwire {

namespace pool {
class Core;
class CudaDriver;
} // namespace pool

struct PoolOptions {
  std::size_t limit = 0;           // bytes; 0: what the machine and its control groups leave
  bool huge_pages = true;          // try them, and keep them if first use is faster with them
  bool lock = false;               // mlock, within RLIMIT_MEMLOCK
  bool register_with_cuda = true;  // where there is a GPU
  bool hide_from_children = false; // MADV_DONTFORK: a forked child that reads a block is killed
  unsigned threads = 0;            // that touch new memory; 0: four, or as many as there are cores
  double decay_s = 10;             // memory not used for as long goes back to the system; 0: never
};

// What tests put in place of the machine's.
struct Surroundings {
  pool::CudaDriver* driver = nullptr;
  std::string (*cuda_fault)() = nullptr; // why there is no driver
  std::uint64_t (*now)() = nullptr;      // nanoseconds
};

class HostPool {
public:
  static constexpr std::size_t kAlignment = 64;

  explicit HostPool(const PoolOptions& options, const Surroundings& surroundings = {});
  // Memory of blocks that live stays until the last is freed.
  ~HostPool();
  HostPool(const HostPool&) = delete;
  HostPool& operator=(const HostPool&) = delete;

  // One for the process, made at first use and never destroyed: what lives until exit may use it.
  static HostPool& shared();
  // At exit: what it has asked of the CUDA driver is done, and it asks for nothing more. The driver
  // must not end under a thread that it serves.
  static void end_registering();

  // Uninitialised memory that begins at a multiple of `alignment` (a power of two up to 2 MiB).
  // Throws PoolExhausted at the limit, and where the system has no more; InvalidArgument.
  std::byte* allocate(std::size_t bytes, std::size_t alignment = kAlignment);
  // Its two halves: the first takes nanoseconds or gives null, the second may take long.
  std::byte* allocate_cached(std::size_t bytes, std::size_t alignment = kAlignment);
  std::byte* allocate_uncached(std::size_t bytes, std::size_t alignment = kAlignment);

  // Called by any thread, in any order. In a forked child, blocks of the parent are left alone.
  void free(std::byte* block) noexcept;
  // The block is used again when `fence` has reached `value`. A pool that dies before keeps its
  // memory for good.
  void free_after(std::byte* block, std::shared_ptr<Fence> fence, std::uint64_t value) noexcept;
  // The block is used again when everything that these streams have been given by now is done. A
  // stream must live until then.
  void free_after_streams(std::byte* block, std::span<const DeviceStream> streams) noexcept;

  bool has_streams() const; // a GPU's, which blocks may have to wait for
  Tier tier(const std::byte* block) const;
  std::size_t usable(const std::byte* block) const; // bytes, at least those asked for

  // Takes `bytes` from the system now, touched by several threads. Throws PoolExhausted.
  void reserve(std::size_t bytes);
  // Gives unused memory back until `keep` bytes are held; returns how many went.
  std::size_t trim(std::size_t keep = 0);

  void settle(); // waits until memory that is being registered with CUDA is so, or is not

  std::size_t held() const; // bytes taken from the system
  PoolStats stats() const;
  std::vector<std::string> reasons() const; // those of the stats, at once

private:
  pool::Core& core() const;
  pool::Core& renew(pool::Core* of_parent) const;

  const PoolOptions options_;
  const Surroundings surroundings_;
  mutable std::atomic<pool::Core*> core_; // another one in a forked child
};

} // namespace thinwire
