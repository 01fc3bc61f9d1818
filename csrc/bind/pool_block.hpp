// Blocks of a pool for Python.
#pragma once

#include "bind/bind.hpp"

#include "pool/host_pool.hpp"

namespace thinwire::bind {

// Only what takes long gives the GIL away.
inline std::byte* allocate_block(HostPool& pool, std::size_t bytes, std::size_t alignment) {
  if (std::byte* const cached = pool.allocate_cached(bytes, alignment))
    return cached;
  const GilRelease release;
  return pool.allocate_uncached(bytes, alignment);
}

} // namespace thinwire::bind
