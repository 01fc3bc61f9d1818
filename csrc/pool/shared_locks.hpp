// Memory of others that is locked while somebody wants it to be.
#pragma once

#include <cstddef>
#include <span>

namespace thinwire::pool {

// As lock_memory, for ranges that may share pages with each other.
bool lock_shared(std::span<const std::byte> memory);
// What another such range has a part of stays locked: mlock does not count.
void unlock_shared(std::span<const std::byte> memory) noexcept;

} // namespace thinwire::pool
