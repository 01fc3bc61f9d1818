// Sizes of blocks: multiples of 64 bytes to 256, then four a doubling, so that at most a fifth of a
// block is not asked for.
#pragma once

#include <bit>
#include <cstddef>

namespace thinwire::pool {

inline constexpr std::size_t kMiB = std::size_t{1} << 20;
inline constexpr std::size_t kPage = 4096;
inline constexpr std::size_t kSmallest = 64;
inline constexpr std::size_t kEven = 4; // classes that are one step apart
inline constexpr std::size_t kLargestInClass = 64 * kMiB;

constexpr std::size_t round_up(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// The smallest class that holds `bytes`: from 1 to kLargestInClass.
constexpr std::size_t class_of(std::size_t bytes) {
  const std::size_t last = bytes - 1;
  if (last < kEven * kSmallest)
    return last / kSmallest;
  const auto doubling = static_cast<std::size_t>(std::bit_width(last)) - 1; // of 256, at least 8
  return kEven + 4 * (doubling - 8) + (last >> (doubling - 2)) - 4;
}

constexpr std::size_t size_of(std::size_t size_class) {
  if (size_class < kEven)
    return (size_class + 1) * kSmallest;
  const std::size_t step = size_class - kEven;
  return (5 + step % 4) << (step / 4 + 6);
}

inline constexpr std::size_t kClasses = class_of(kLargestInClass) + 1;
inline constexpr std::size_t kTooLarge = kClasses; // blocks of whole pages, each by itself

// The class for blocks that begin at multiples of `alignment`, a power of two.
constexpr std::size_t class_of(std::size_t bytes, std::size_t alignment) {
  if (bytes == 0)
    bytes = 1;
  if (alignment > kSmallest)
    bytes = (bytes + alignment - 1) & ~(alignment - 1);
  if (bytes > kLargestInClass)
    return kTooLarge;
  std::size_t c = class_of(bytes);
  while (size_of(c) & (alignment - 1))
    ++c; // four on, it is twice the size
  return c;
}

} // namespace thinwire::pool
