// Byte planes: the first bytes of all elements, then the second bytes, and so on. What an element's
// bytes mean (an exponent, noise) then lies together, and a compressor finds it. What is shorter
// than an element stays at the end.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace thinwire {

inline constexpr std::size_t kWidestElement = 4;         // bytes
inline constexpr std::size_t kEntropySample = 64 * 1024; // bytes that plane_entropies looks at

// Elements of 2 or 4 bytes; InvalidArgument for others. `out` has the size of `data` and must not
// overlap it.
void split_planes(std::span<const std::byte> data, std::size_t width, std::span<std::byte> out);
void merge_planes(std::span<const std::byte> planes, std::size_t width, std::span<std::byte> out);

// Shannon's entropy of each plane's bytes, in bits a byte, over evenly spread runs of elements:
// a lower bound of what an entropy coder without context makes of them. 0 beyond `width`.
std::array<double, kWidestElement> plane_entropies(std::span<const std::byte> data,
                                                   std::size_t width);

} // namespace thinwire
