// The shared basis of a matrix, see docs/basis.md: a few orthonormal vectors that all ranks hold
// alike, along which the rows of a gradient are sent more precisely than by a coarse codec.
#pragma once

#include "codec/math.hpp"

namespace thinwire {

// `rank` vectors of `columns` values, one after another in memory that belongs to the caller. Rank
// 0: no basis.
struct Basis {
  std::size_t columns = 0, rank = 0;
  const float* vectors = nullptr;
};

inline constexpr std::size_t kGreatestRank = 32;
// So that 32 bits number the values of a basis.
inline constexpr std::size_t kGreatestColumns = (std::size_t{1} << 32) / kGreatestRank;
// Rows that are coded together: coefficient k of row i of a group is coefficients[k * kGroupRows +
// i], and those of rows that are not there are 0.
inline constexpr std::size_t kGroupRows = 64;

inline constexpr float kKeptOfVector = 0.75f; // the rest comes from what was learnt
// A vector the square of whose length is below this cannot be made orthonormal.
inline constexpr float kVanished = 0x1p-20f;

// The power of two that brings a value with these magnitude bits between 1 and 4, so that squares
// neither overflow nor vanish.
THINWIRE_HD float to_about_one(std::uint32_t magnitude) {
  const std::uint32_t exponent = magnitude >> 23;
  return bits_float((254 - (exponent < 253 ? exponent : 253)) << 23);
}

// The kernels of one CPU target. A matrix lies row by row, `columns` values each.
struct BasisKernels {
  // coefficients = vectors * transposed(matrix), of at most kGroupRows rows
  void (*project)(const Basis& basis, const float* matrix, std::size_t rows, float* coefficients);
  // matrix -= transposed(coefficients) * vectors
  void (*subtract)(const Basis& basis, const float* coefficients, std::size_t rows, float* matrix);
  // matrix += transposed(coefficients) * vectors; every NaN becomes the canonical one
  void (*add)(const Basis& basis, const float* coefficients, std::size_t rows, float* matrix);
  // sums += coefficients * matrix, row after row, of at most kGroupRows rows
  void (*combine)(std::size_t rank, std::size_t columns, const float* coefficients,
                  const float* matrix, std::size_t rows, float* sums);
  // moments += vectors * transposed(matrix) * matrix, row after row, of any number of rows
  void (*learn)(const Basis& basis, const float* matrix, std::size_t rows, float* moments);
  // Of what lies beside the vectors in at most kGroupRows rows, and `before` (bf16, as many
  // values), a share is left in the matrix and the rest becomes `after`, which may be `before`. NaN
  // and infinities stay in the matrix.
  void (*spread)(const Basis& basis, float* matrix, std::size_t rows, float share,
                 const std::uint16_t* before, std::uint16_t* after);
  // next = the vectors, turned towards the moments and made orthonormal again. They stay as they
  // are where the moments hold nothing, or something that is not finite.
  void (*turn)(const Basis& basis, const float* moments, float* next);
  // vectors = random ones, orthonormal; the first unit vectors where chance made them dependent
  void (*begin)(std::size_t columns, std::size_t rank, std::uint64_t key, float* vectors);
  // next = the vectors found, made orthonormal, random ones in the place of those that vanish.
  // False, and nothing of use in next, where found is zero or not finite.
  bool (*orthonormal)(std::size_t columns, std::size_t rank, const float* found, float* next);
};

} // namespace thinwire
