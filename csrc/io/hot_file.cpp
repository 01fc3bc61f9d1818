#include "io/hot_file.hpp"

#include "core/cache_line.hpp"
#include "io/page_cache.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

namespace thinwire {

HotFile::~HotFile() {
  if (address_ != nullptr)
    ::munmap(address_, size_);
}

std::span<const std::byte> HotFile::bytes(int fd) {
  if (!hot_.load(std::memory_order_acquire)) {
    if (reads_.fetch_add(1, std::memory_order_relaxed) < next_look_.load(std::memory_order_relaxed))
      return {};
    look(fd);
    return {};
  }
  return {address_, size_};
}

// Costs some nanoseconds a page, so it is done ever less often.
void HotFile::look(int fd) {
  const std::unique_lock lock(looking_, std::try_to_lock);
  if (!lock)
    return;
  next_look_.store(2 * reads_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  struct stat status;
  if (::fstat(fd, &status) != 0 || status.st_size == 0)
    return;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size < size_ || !is_cached(fd, size))
    return;
  if (address_ == nullptr) {
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED)
      return;
    address_ = static_cast<std::byte*>(address);
    size_ = size;
  }
  hot_.store(true, std::memory_order_release);
}

void HotFile::prefetch(std::uint64_t offset, std::uint64_t count) const {
  if (offset + count > size_)
    return;
  for (std::uint64_t at = 0; at < count; at += kCacheLine)
    __builtin_prefetch(address_ + offset + at);
}

bool HotFile::has_shrunk(int fd) const {
  struct stat status;
  return ::fstat(fd, &status) != 0 || static_cast<std::uint64_t>(status.st_size) < size_;
}

} // namespace thinwire
