// How much memory a pool may take.
#pragma once

#include <cstddef>
#include <string>

namespace thinwire::pool {

struct Budget {
  std::size_t bytes;
  std::string set_by;
};

// The least of what the caller allows (0: anything), of what the control groups (version 1 and 2)
// of this process leave, memory that the kernel can reclaim counted as left, and of four fifths of
// the memory that is available. `root` is where /proc and /sys are.
Budget budget(std::size_t asked, const std::string& root = "");

// What RLIMIT_MEMLOCK lets this process lock.
std::size_t lockable_bytes();

} // namespace thinwire::pool
