// What processors move between their caches at a time.
#pragma once

#include <cstddef>

namespace thinwire {

inline constexpr std::size_t kCacheLine = 64;

} // namespace thinwire
