// Timings of the pool, for the benchmark: in C++, so that Python's own time is not in them.
#pragma once

#include "pool/host_pool.hpp"

namespace thinwire {

// Seconds of one allocate and free, in a loop of `pairs` by one thread.
double time_pairs(HostPool& pool, std::size_t bytes, std::size_t pairs);
// The same where one thread allocates and another frees.
double time_remote_pairs(HostPool& pool, std::size_t bytes, std::size_t pairs);
// Seconds of the first use of `bytes` of new memory from the system by one thread that touches
// every page.
double time_touch(std::size_t bytes);
// Seconds of reserve(bytes) in a new pool with these options and an allocation of all of it.
double time_reserve(const PoolOptions& options, std::size_t bytes);

} // namespace thinwire
