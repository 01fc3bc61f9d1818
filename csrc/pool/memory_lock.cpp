#include "pool/memory_lock.hpp"

#include "pool/budget.hpp"

#include <atomic>
#include <sys/mman.h>

namespace thinwire::pool {
namespace {

std::atomic<std::size_t> locked_bytes = 0;

} // namespace

// A privileged process may lock more than the limit; it is kept all the same.
bool lock_memory(std::span<const std::byte> memory) {
  const std::size_t before = locked_bytes.fetch_add(memory.size());
  if (before + memory.size() <= lockable_bytes() && mlock(memory.data(), memory.size()) == 0)
    return true;
  locked_bytes.fetch_sub(memory.size());
  return false;
}

void unlock_memory(std::span<const std::byte> memory, std::size_t locked) {
  munlock(memory.data(), memory.size());
  locked_bytes.fetch_sub(locked);
}

} // namespace thinwire::pool
