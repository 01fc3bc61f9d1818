#include "dispatch/low_rank.hpp"

#include "core/float_env.hpp"
#include "dispatch/row_groups.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace thinwire {
namespace {

// The coefficients of a group of rows, as the kernels take them.
using Coefficients = float[kGreatestRank * kGroupRows];

// What a group of rows has of each vector of a left factor, rank x rows.
void gather(const LowRank& matrix, const float* left, std::size_t first, std::size_t rows,
            float* coefficients) {
  for (std::size_t k = 0; k < matrix.rank; ++k)
    std::memcpy(coefficients + k * kGroupRows, left + k * matrix.rows + first,
                rows * sizeof(float));
}

void scatter(const LowRank& matrix, const float* coefficients, std::size_t first, std::size_t rows,
             float* left) {
  for (std::size_t k = 0; k < matrix.rank; ++k)
    std::memcpy(left + k * matrix.rows + first, coefficients + k * kGroupRows,
                rows * sizeof(float));
}

void fold_rows(const KernelTable& kernels, const Contribution& y, std::size_t first,
               std::size_t count, float* values) {
  kernels.fold({.x = value_at(y.x, y.dtype, first),
                .dtype = y.dtype,
                .n = count,
                .scale = y.scale,
                .residual = value_at(y.residual, y.residual_dtype, first),
                .residual_dtype = y.residual_dtype,
                .out = values});
}

// Where fp32 values for an array are made: in it, or beside it if it has another dtype.
float* place_for(void* array, DType dtype, std::size_t count) {
  return dtype == DType::fp32 ? static_cast<float*>(array) : scratch(count);
}

// Puts what was made there into the array.
void put(const KernelTable& kernels, const float* made, std::size_t count, void* array,
         DType dtype) {
  if (dtype != DType::fp32)
    from_fp32(kernels, made, count, array, dtype);
}

// sums += more
void add_to(const KernelTable& kernels, float* sums, const float* more, std::size_t count) {
  kernels.fold({.x = more,
                .dtype = DType::fp32,
                .n = count,
                .scale = 1,
                .residual = sums,
                .residual_dtype = DType::fp32,
                .out = sums});
}

// A sum near the end of fp32's range may have passed it; that must not stay.
void drop_nonfinite(const KernelTable& kernels, float* values, std::size_t count) {
  if (kernels.count_nonfinite(values, count, DType::fp32) > 0)
    std::replace_if(values, values + count, [](float v) { return !std::isfinite(v); }, 0.0f);
}

} // namespace

void factor_of(const LowRank& matrix, Factor which, const Contribution& y, float* factor) {
  const FloatEnvironment environment;
  const KernelTable& kernels = active_kernels();
  const std::size_t columns = matrix.columns, right_count = matrix.rank * columns;
  float* values = scratch(kGroupRows * columns + right_count);
  float* later = values + kGroupRows * columns; // the sums of a group that is not the first
  Coefficients coefficients;
  by_groups(matrix.rows, [&](std::size_t first, std::size_t rows) {
    fold_rows(kernels, y, first * columns, rows * columns, values);
    if (which == Factor::left) {
      kernels.basis.project({columns, matrix.rank, matrix.right}, values, rows, coefficients);
      scatter(matrix, coefficients, first, rows, factor);
    } else {
      float* sums = first == 0 ? factor : later;
      std::fill_n(sums, right_count, 0.0f);
      gather(matrix, matrix.left, first, rows, coefficients);
      kernels.basis.combine(matrix.rank, columns, coefficients, values, rows, sums);
      if (first != 0)
        add_to(kernels, factor, later, right_count);
    }
  });
}

bool deliver(const LowRank& matrix, Factor which, const Contribution& y, const float* sent,
             const float* mean, void* residual_out, void* out) {
  const FloatEnvironment environment;
  const KernelTable& kernels = active_kernels();
  const bool is_left = which == Factor::left;
  const std::size_t columns = matrix.columns;
  const std::size_t length = is_left ? matrix.rows : columns;
  const bool is_finite = kernels.count_nonfinite(mean, matrix.rank * length, DType::fp32) == 0;
  std::size_t overflown = 0;
  const Basis rows_sent{columns, matrix.rank, is_left ? matrix.right : sent};
  const Basis rows_received{columns, matrix.rank, is_left ? matrix.right : mean};
  Coefficients coefficients;
  by_groups(matrix.rows, [&](std::size_t first, std::size_t rows) {
    const std::size_t at = first * columns, count = rows * columns;
    if (residual_out && is_finite) {
      gather(matrix, is_left ? sent : matrix.left, first, rows, coefficients);
      void* to = value_at(residual_out, y.residual_dtype, at);
      float* kept = place_for(to, y.residual_dtype, count);
      fold_rows(kernels, y, at, count, kept);
      kernels.basis.subtract(rows_sent, coefficients, rows, kept);
      drop_nonfinite(kernels, kept, count);
      put(kernels, kept, count, to, y.residual_dtype);
    }
    gather(matrix, is_left ? mean : matrix.left, first, rows, coefficients);
    void* to = value_at(out, y.dtype, at);
    float* received = place_for(to, y.dtype, count);
    std::fill_n(received, count, 0.0f);
    kernels.basis.add(rows_received, coefficients, rows, received);
    put(kernels, received, count, to, y.dtype);
    overflown += kernels.count_nonfinite(to, count, y.dtype);
  });
  return is_finite && overflown == 0;
}

bool orthonormal_factor(std::size_t length, std::size_t rank, const float* factor, float* next) {
  const FloatEnvironment environment;
  return active_kernels().basis.orthonormal(length, rank, factor, next);
}

} // namespace thinwire
