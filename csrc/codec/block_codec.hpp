// What the block codecs share: one bf16 scale a block, then codes, as many a byte as fit.
//
// A block codec is a struct with what the registry shows (kName, kWireId, kDefaultBlock,
// kErrorBound, kErrorNorm), the constants
//
//   kRadix            number of different codes on the wire, 2 to 256
//   kSmallestBlock    a block is this times a power of two, at most kLargestBlock; a multiple of
//                     sixteen times the codes of a byte, unless kRadix is 2
//   kBase, kDivisor   scale = bf16_up(base / divisor), base the block's greatest or mean magnitude
//                     or what fits it best (fitted_scale.hpp)
//   kHasRounding      whether rounding=stochastic exists
//   kHasRotation      whether rotate=true exists: a block is then coded as its Walsh-Hadamard
//                     transform (rotation.hpp)
//   kZeroWire         a byte of wire forms of the code for zero
//
// and the functions quantise, dequantise, to_wire, from_wire on a target's vectors F (float) and
// F::Int. Where kHasRounding, quantise makes integers by what it is given for it: ToNearest or
// Stochastically.
// The loops over blocks are dispatch/block_kernels.inl and dispatch/warp_blocks.hpp.
#pragma once

#include "codec/math.hpp"

namespace thinwire {

enum class ScaleBase { greatest, mean, fitted };
// Whether an error bound holds for every value against its block's greatest, or for L2 norms.
enum class ErrorNorm { max, l2 };

inline constexpr std::size_t kLargestBlock = 4096;

// How many codes of a radix fit in a byte.
THINWIRE_HD constexpr std::size_t codes_per_byte(unsigned radix) {
  std::size_t codes = 0;
  for (unsigned reach = radix; reach <= 256; reach *= radix)
    ++codes;
  return codes;
}

// The greatest byte that such codes make.
THINWIRE_HD constexpr unsigned greatest_byte(unsigned radix) {
  unsigned reach = 1;
  for (std::size_t i = 0; i < codes_per_byte(radix); ++i)
    reach *= radix;
  return reach - 1;
}

// Bytes of the codes of a block.
THINWIRE_HD constexpr std::size_t code_bytes(std::size_t block, unsigned radix) {
  return block / codes_per_byte(radix);
}

struct BlockSections {
  std::size_t blocks, codes, bytes; // number of blocks, offset of the codes, size of the payload
};

THINWIRE_HD constexpr BlockSections block_sections(std::size_t n, std::size_t block,
                                                   unsigned radix) {
  const std::size_t blocks = ceil_div(n, block), codes = align16(blocks * 2);
  return {blocks, codes, codes + align16(blocks * code_bytes(block, radix))};
}

// Codes of a radix above 2 are the digits of their byte: byte j of a block has code j as its lowest
// digit, then codes j + part, j + 2 part, ..., where part = code_bytes(block, radix). These three
// put digits on top of each other and take them off, for any byte.
template <unsigned kRadix, class I> THINWIRE_HD I times_radix(I x) {
  if constexpr (kRadix == 3)
    return x + shl<1>(x);
  else
    return shl<__builtin_ctz(kRadix)>(x);
}
template <unsigned kRadix, class I> THINWIRE_HD I over_radix(I byte) {
  if constexpr (kRadix == 3)
    return shr<9>(byte * I::splat(171));
  else
    return shr<__builtin_ctz(kRadix)>(byte);
}
template <unsigned kRadix, class I> THINWIRE_HD I lowest_digit(I byte) {
  if constexpr (kRadix == 3)
    return byte - times_radix<3>(over_radix<3>(byte));
  else
    return byte & I::splat(kRadix - 1);
}

// Rounds half to even. A scale is great enough for no integer to be beyond what is allowed.
template <class F> struct ToNearest {
  THINWIRE_HD typename F::Int operator()(F x, typename F::Int) const { return rint_int(x); }
};

// Rounds up or down by chance, to integers from -greatest to greatest.
template <class F> struct Stochastically {
  using I = typename F::Int;
  I index;
  std::uint64_t key;

  THINWIRE_HD I operator()(F x, I greatest) const {
    const I rounded = floor_int(x + uniform<F>(index, key));
    return max_int(min_int(rounded, greatest), I::splat(0) - greatest);
  }
};

// Rounds y / scale to the nearest code.
template <class C, class F> THINWIRE_HD typename F::Int nearest_code(F y, F inverse) {
  if constexpr (C::kHasRounding)
    return C::template quantise<F>(y, inverse, ToNearest<F>{});
  else
    return C::template quantise<F>(y, inverse);
}

// The same, or by chance.
template <class C, bool kStochastic, class F>
THINWIRE_HD typename F::Int block_code(F y, F inverse, typename F::Int index, std::uint64_t key) {
  if constexpr (kStochastic)
    return C::template quantise<F>(y, inverse, Stochastically<F>{index, key});
  else
    return nearest_code<C>(y, inverse);
}

} // namespace thinwire
