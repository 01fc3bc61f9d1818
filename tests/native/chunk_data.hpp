// Data to cut into chunks: random, and of the kinds that are hard to cut.
#pragma once

#include "data.hpp"

namespace data {

enum class Content { random, two_letters, zeros, periodic, sparse };
inline constexpr Content kContents[] = {Content::random, Content::two_letters, Content::zeros,
                                        Content::periodic, Content::sparse};

inline Memory made(Content content, std::size_t size, std::uint64_t seed, std::size_t skew = 0) {
  Memory memory(size, skew);
  Random random(seed);
  for (std::size_t i = 0; i < size; ++i) {
    const auto byte = static_cast<std::uint8_t>(random.next());
    memory.data()[i] = content == Content::random                ? byte
                       : content == Content::two_letters         ? 'a' + byte % 2
                       : content == Content::periodic && i >= 64 ? memory.data()[i - 64]
                       : content == Content::periodic            ? byte
                       : content == Content::sparse && byte < 3  ? 7
                                                                 : 0;
  }
  return memory;
}

} // namespace data
