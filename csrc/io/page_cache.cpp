#include "io/page_cache.hpp"

#include <algorithm>
#include <fcntl.h>
#include <optional>
#include <unistd.h>

namespace thinwire {
namespace {

constexpr long kCachestatCall = 451; // the same number on every architecture

// The kernel fetches no more for one call than the greatest request of the device, 128 KiB or more.
constexpr std::uint64_t kMostFetched = 128 << 10;

struct CachestatRange {
  std::uint64_t offset, bytes;
};

struct Cachestat { // counts of pages
  std::uint64_t cached, dirty, in_writeback, evicted, recently_evicted;
};

std::optional<std::uint64_t> cached_pages(int fd, CachestatRange range) {
  Cachestat pages{};
  if (::syscall(kCachestatCall, fd, &range, &pages, 0) != 0)
    return std::nullopt;
  return pages.cached;
}

std::uint64_t whole_pages(std::uint64_t bytes) {
  return bytes / static_cast<std::uint64_t>(::getpagesize());
}

} // namespace

bool is_cold(int fd, std::uint64_t offset, std::uint64_t bytes) {
  const auto cached = cached_pages(fd, {offset, bytes});
  return cached && *cached <= whole_pages(bytes) / 8;
}

bool is_cached(int fd, std::uint64_t size) {
  const auto cached = cached_pages(fd, {0, size});
  return cached && *cached >= whole_pages(size);
}

void fetch_ahead(int fd, std::uint64_t offset, std::uint64_t bytes) {
  for (const std::uint64_t end = offset + bytes; offset < end; offset += kMostFetched) {
    const std::uint64_t piece = std::min(end - offset, kMostFetched);
    // Advice: what goes wrong shows when the bytes are read.
    static_cast<void>(::posix_fadvise(fd, static_cast<off_t>(offset), static_cast<off_t>(piece),
                                      POSIX_FADV_WILLNEED));
  }
}

} // namespace thinwire
