// mlock, within what RLIMIT_MEMLOCK lets the process have.
#pragma once

#include <cstddef>
#include <span>

namespace thinwire::pool {

// Whether the memory is locked now. What this process has locked otherwise is not known: then it is
// the kernel that refuses.
bool lock_memory(std::span<const std::byte> memory);
// Of `memory`, `locked` bytes had been locked.
void unlock_memory(std::span<const std::byte> memory, std::size_t locked);

} // namespace thinwire::pool
