// What the kernel's page cache holds of a file, and asking it to fetch more.
#pragma once

#include <cstdint>

namespace thinwire {

// Whether hardly any of these bytes are in the page cache, and whether the file is there from its
// beginning to `size`. False where the kernel does not say: before Linux 6.5, and for files of
// others.
bool is_cold(int fd, std::uint64_t offset, std::uint64_t bytes);
bool is_cached(int fd, std::uint64_t size);

// Has the kernel begin to read these bytes into the page cache.
void fetch_ahead(int fd, std::uint64_t offset, std::uint64_t bytes);

} // namespace thinwire
