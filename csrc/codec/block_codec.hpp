// What the block codecs share: one bf16 scale a block, then codes of 8, 4 or 1 bits.
//
// A block codec is a struct with what the registry shows (kName, kWireId, kDefaultBlock,
// kErrorBound, kErrorNorm), the constants
//
//   kBits             width of a code on the wire
//   kBase, kDivisor   scale = bf16_up(base / divisor), base the block's greatest or mean magnitude
//   kGreatestCode     codes lie in [-kGreatestCode, kGreatestCode]; only used where kHasRounding
//   kHasRounding      whether rounding=stochastic exists
//   kZeroWire         the wire form of the code for zero
//
// and the functions quantise, dequantise, to_wire, from_wire on a target's vectors F (float) and
// F::Int.
// The loops over blocks are dispatch/block_kernels.inl and dispatch/cuda_kernels.cu.
#pragma once

#include "codec/math.hpp"

namespace thinwire {

enum class ScaleBase { greatest, mean };
// Whether an error bound holds for every value against its block's greatest, or for L2 norms.
enum class ErrorNorm { max, l2 };

inline constexpr std::size_t kSmallestBlock = 32, kLargestBlock = 4096;

struct BlockSections {
  std::size_t blocks, codes, bytes; // number of blocks, offset of the codes, size of the payload
};

THINWIRE_HD constexpr BlockSections block_sections(std::size_t n, std::size_t block,
                                                   std::size_t bits) {
  const std::size_t blocks = ceil_div(n, block), codes = align16(blocks * 2);
  return {blocks, codes, codes + align16(blocks * block * bits / 8)};
}

// Rounds y / scale to a code.
template <class C, bool kStochastic, class F>
THINWIRE_HD typename F::Int block_code(F y, F inverse, typename F::Int index, std::uint64_t key) {
  if constexpr (kStochastic) {
    using I = typename F::Int;
    const I code = floor_int(y * inverse + uniform<F>(index, key));
    return max_int(min_int(code, I::splat(C::kGreatestCode)), I::splat(-C::kGreatestCode));
  } else {
    return C::template quantise<F>(y, inverse);
  }
}

} // namespace thinwire
