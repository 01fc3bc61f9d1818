// What a pool has done and holds.
#pragma once

#include "pool/tier.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace thinwire {

struct ClassStats {
  std::size_t size = 0; // of a block; 0 stands for those too large for a class
  std::uint64_t allocations = 0;
  std::size_t live = 0;   // bytes of blocks in use
  std::size_t cached = 0; // bytes of free blocks that have been in use
  std::size_t peak = 0;   // greatest `live`, looked at whenever a thread went to the shared lists
};

struct TierStats {
  std::size_t held = 0;
  std::size_t peak = 0;
};

struct PoolStats {
  std::size_t limit = 0; // of `held`, in bytes
  std::string limited_by;
  std::size_t held = 0; // bytes taken from the system
  std::size_t peak_held = 0;
  std::size_t live = 0;
  std::size_t peak_live = 0;
  std::uint64_t allocations = 0;
  std::uint64_t misses = 0; // allocations that the thread's own magazine could not serve
  std::uint64_t local_frees = 0;
  std::uint64_t remote_frees = 0; // by another thread than the one that allocated
  std::uint64_t requested = 0;    // bytes asked for, in all allocations
  std::uint64_t given = 0;        // bytes of the blocks that were given for them
  std::uint64_t latency_samples = 0;
  double latency_p50_ns = 0;
  double latency_p99_ns = 0;
  std::uint64_t deferred_frees = 0; // frees that named something to wait for
  std::uint64_t deferred_waiting = 0;
  std::uint64_t deferred_waits = 0; // times the oldest of a queue was found not to be ready
  bool huge_pages = false;          // whether new memory asks for them
  double huge_share = 0;            // of the resident memory, as the kernel reports it
  double huge_bytes_per_s = 0;      // of first use in the trial; 0: not tried
  double plain_bytes_per_s = 0;
  double prefault_s = 0; // time spent on touching memory first
  double register_s = 0; // time spent in the CUDA driver, in the background
  std::array<TierStats, kTiers> tiers;
  std::vector<ClassStats> classes;  // those ever used
  std::vector<std::string> reasons; // why memory is of a lower tier than was asked for
};

} // namespace thinwire
