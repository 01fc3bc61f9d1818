#include "dedup/planes.hpp"

#include "core/cpu.hpp"
#include "core/error.hpp"
#include "core/inline.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

namespace thinwire {
namespace {

using Byte = std::uint8_t;

// Loops over whole elements, in the form that compilers turn into vectors of every width. The
// pointers do not overlap.
template <class Element>
THINWIRE_INLINE void split(const Byte* __restrict data, std::size_t elements,
                           Byte* __restrict planes) {
  for (std::size_t i = 0; i < elements; ++i) {
    Element element;
    std::memcpy(&element, data + i * sizeof element, sizeof element);
    for (std::size_t k = 0; k < sizeof element; ++k)
      planes[k * elements + i] = static_cast<Byte>(element >> (8 * k));
  }
}

template <class Element>
THINWIRE_INLINE void merge(const Byte* __restrict planes, std::size_t elements,
                           Byte* __restrict out) {
  for (std::size_t i = 0; i < elements; ++i) {
    Element element = 0;
    for (std::size_t k = 0; k < sizeof element; ++k)
      element = static_cast<Element>(element | Element{planes[k * elements + i]} << (8 * k));
    std::memcpy(out + i * sizeof element, &element, sizeof element);
  }
}

enum class Direction { split, merge };

template <Direction Way>
THINWIRE_INLINE void rearrange(const Byte* from, std::size_t elements, std::size_t width,
                               Byte* to) {
  constexpr auto kTwo = Way == Direction::split ? split<std::uint16_t> : merge<std::uint16_t>;
  constexpr auto kFour = Way == Direction::split ? split<std::uint32_t> : merge<std::uint32_t>;
  if (width == 2)
    kTwo(from, elements, to);
  else
    kFour(from, elements, to);
}

template <Direction Way>
void rearrange_baseline(const Byte* from, std::size_t elements, std::size_t width, Byte* to) {
  rearrange<Way>(from, elements, width, to);
}

#if defined(__x86_64__)
template <Direction Way>
__attribute__((target("avx2"))) void rearrange_avx2(const Byte* from, std::size_t elements,
                                                    std::size_t width, Byte* to) {
  rearrange<Way>(from, elements, width, to);
}

template <Direction Way>
__attribute__((target("avx512f,avx512bw"))) void
rearrange_avx512(const Byte* from, std::size_t elements, std::size_t width, Byte* to) {
  rearrange<Way>(from, elements, width, to);
}
#endif

template <Direction Way>
void rearrange_for_target(const Byte* from, std::size_t elements, std::size_t width, Byte* to) {
#if defined(__x86_64__)
  if (active_target() == Target::avx512)
    return rearrange_avx512<Way>(from, elements, width, to);
  if (active_target() == Target::avx2)
    return rearrange_avx2<Way>(from, elements, width, to);
#endif
  rearrange_baseline<Way>(from, elements, width, to);
}

void check_width(std::size_t width) {
  if (width != 2 && width != 4)
    throw InvalidArgument("byte planes are of elements of 2 or 4 bytes, not of " +
                          std::to_string(width));
}

template <Direction Way>
void rearrange_bytes(std::span<const std::byte> from, std::size_t width, std::span<std::byte> to) {
  check_width(width);
  if (from.size() != to.size())
    throw InvalidArgument("byte planes of " + std::to_string(from.size()) +
                          " bytes need as many to be written to, not " + std::to_string(to.size()));
  const std::size_t elements = from.size() / width, whole = elements * width;
  rearrange_for_target<Way>(reinterpret_cast<const Byte*>(from.data()), elements, width,
                            reinterpret_cast<Byte*>(to.data()));
  std::copy(from.begin() + static_cast<std::ptrdiff_t>(whole), from.end(),
            to.begin() + static_cast<std::ptrdiff_t>(whole));
}

constexpr std::size_t kRunBytes = 1024; // of the sample; a multiple of every width
using Histogram = std::array<std::uint32_t, 256>;

double entropy(const Histogram& histogram, std::size_t count) {
  double bits = 0;
  for (const std::uint32_t times : histogram)
    if (times > 0)
      bits -= times * std::log2(static_cast<double>(times) / static_cast<double>(count));
  return std::max(0.0, bits / static_cast<double>(count));
}

} // namespace

void split_planes(std::span<const std::byte> data, std::size_t width, std::span<std::byte> out) {
  rearrange_bytes<Direction::split>(data, width, out);
}

void merge_planes(std::span<const std::byte> planes, std::size_t width, std::span<std::byte> out) {
  rearrange_bytes<Direction::merge>(planes, width, out);
}

std::array<double, kWidestElement> plane_entropies(std::span<const std::byte> data,
                                                   std::size_t width) {
  check_width(width);
  const std::size_t whole = data.size() / width * width;
  const std::size_t runs = whole > kEntropySample ? kEntropySample / kRunBytes : 1;
  const std::size_t run = runs > 1 ? kRunBytes : whole;
  std::array<Histogram, kWidestElement> histograms{};
  for (std::size_t r = 0; r < runs; ++r) {
    const std::size_t elements_before = runs > 1 ? (whole - run) / width * r / (runs - 1) : 0;
    const auto* element = reinterpret_cast<const Byte*>(data.data()) + elements_before * width;
    for (std::size_t i = 0; i < run; ++i)
      ++histograms[i % width][element[i]];
  }
  std::array<double, kWidestElement> entropies{};
  for (std::size_t k = 0; k < width && whole > 0; ++k)
    entropies[k] = entropy(histograms[k], runs * run / width);
  return entropies;
}

} // namespace thinwire
