// A matrix as the product of two thin ones, of which one is sent a step: PowerSGD, see
// docs/powersgd.md.
#pragma once

#include "dispatch/basis.hpp"
#include "dispatch/kernel_table.hpp"

#include <cstddef>

namespace thinwire {

// Which factor a step sends, and works out with the other one.
enum class Factor { left, right };

// A matrix lies row by row. Its factors are `rank` vectors each, one after another in memory that
// belongs to the caller: `left` of `rows` values, `right` of `columns`. The one that is not sent is
// orthonormal, or has zero vectors where it is not.
struct LowRank {
  std::size_t rows, columns, rank;
  const float* left;
  const float* right;
};

// y = x * scale + residual, the values of a matrix. The residual may be null.
struct Contribution {
  const void* x;
  DType dtype;
  float scale;
  const void* residual;
  DType residual_dtype; // fp32 or bf16
};

// factor = right * transposed(y), rank x rows, or left * y, rank x columns. The latter is added up
// over kGroupRows rows at a time, and then over these groups.
void factor_of(const LowRank& matrix, Factor which, const Contribution& y, float* factor);

// Ends a step. `sent` is the factor this rank gave, as others take it, `mean` what all have
// received. residual_out, which may be null or y's own, becomes y less what was sent; `out`, which
// may be x, becomes what was received. Where the mean is not finite nothing goes into residual_out.
// False where anything that was received is not finite, as `out` holds it.
bool deliver(const LowRank& matrix, Factor which, const Contribution& y, const float* sent,
             const float* mean, void* residual_out, void* out);

// next = the factor, made orthonormal: `rank` vectors of `length`. False, and nothing of use in
// next, where the factor is zero or not finite.
bool orthonormal_factor(std::size_t length, std::size_t rank, const float* factor, float* next);

} // namespace thinwire
