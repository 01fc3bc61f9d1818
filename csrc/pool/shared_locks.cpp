#include "pool/shared_locks.hpp"

#include "pool/memory_lock.hpp"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <unistd.h>
#include <vector>

namespace thinwire::pool {
namespace {

struct Pages {
  std::uintptr_t begin;
  std::uintptr_t end;

  bool operator==(const Pages&) const = default;
};

std::mutex mutex;
std::vector<Pages> locked;

Pages pages_of(std::span<const std::byte> memory) {
  static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  return {begin / page * page, (begin + memory.size() + page - 1) / page * page};
}

// The parts of `pages` that no locked range has.
std::vector<Pages> unshared(const Pages& pages) {
  std::vector<Pages> parts = {pages};
  for (const Pages& other : locked) {
    std::vector<Pages> left;
    for (const Pages& part : parts) {
      if (const std::uintptr_t end = std::min(part.end, other.begin); part.begin < end)
        left.push_back({part.begin, end});
      if (const std::uintptr_t begin = std::max(part.begin, other.end); begin < part.end)
        left.push_back({begin, part.end});
    }
    parts = std::move(left);
  }
  return parts;
}

} // namespace

bool lock_shared(std::span<const std::byte> memory) {
  const std::lock_guard lock(mutex);
  if (!lock_memory(memory))
    return false;
  locked.push_back(pages_of(memory));
  return true;
}

void unlock_shared(std::span<const std::byte> memory) noexcept {
  const std::lock_guard lock(mutex);
  const Pages pages = pages_of(memory);
  locked.erase(std::find(locked.begin(), locked.end(), pages));
  for (const Pages& part : unshared(pages))
    unlock_memory({reinterpret_cast<const std::byte*>(part.begin), part.end - part.begin}, 0);
  unlock_memory({}, memory.size());
}

} // namespace thinwire::pool
