// Bytes at any address as words of four, on the host and in CUDA.
#pragma once

#include "core/types.hpp"

#include <bit>
#include <cstring>

static_assert(std::endian::native == std::endian::little);

namespace thinwire {

// A GPU reads aligned words only. One that holds a wanted byte can be read whole: no allocation
// ends within a word.
template <unsigned Count>
THINWIRE_HD void load_words(const std::uint8_t* data, std::uint32_t* words) {
#if defined(__CUDA_ARCH__)
  const auto skew = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(data) % 4);
  const auto* aligned = reinterpret_cast<const std::uint32_t*>(data - skew);
  std::uint32_t low = aligned[0];
  for (unsigned i = 0; i < Count; ++i) {
    const std::uint32_t high = i + 1 < Count || skew != 0 ? aligned[i + 1] : 0;
    words[i] = __funnelshift_r(low, high, 8 * skew);
    low = high;
  }
#else
  std::memcpy(words, data, 4 * Count);
#endif
}

// With zeros for what lies behind `bytes`.
template <unsigned Count>
THINWIRE_HD void load_words_padded(const std::uint8_t* data, std::uint64_t bytes,
                                   std::uint32_t* words) {
  if (bytes >= 4 * Count)
    return load_words<Count>(data, words);
  for (unsigned i = 0; i < Count; ++i) {
    words[i] = 0;
    for (unsigned byte = 0; byte < 4; ++byte)
      if (4 * i + byte < bytes)
        words[i] |= std::uint32_t{data[4 * i + byte]} << 8 * byte;
  }
}

} // namespace thinwire
