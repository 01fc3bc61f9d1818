#include "dispatch/basis_codec.hpp"

#include "core/error.hpp"
#include "core/float_env.hpp"
#include "dispatch/row_groups.hpp"

#include <algorithm>
#include <string>

namespace thinwire {
namespace {

// What a basis leaves over is mostly noise. A codec that knows one magnitude a block sends less of
// it than would leave the least error behind: an optimizer that divides by the size of what it sees
// (Adam) is better served so. docs/basis.md
constexpr float kRestGain = 0.625f;

std::size_t groups_in(const Basis& basis, std::size_t values) {
  return ceil_div(values / basis.columns, kGroupRows);
}

// Rounds the coefficients as they travel. Returns how many blocks were not finite.
std::size_t encode_coefficients(const KernelTable& kernels, const Basis& basis,
                                const float* coefficients, std::uint8_t* payload) {
  return kernels.encode[codec_index(Int8::kWireId)](
      coefficient_args(basis.rank, coefficients, payload));
}

void decode_coefficients(const KernelTable& kernels, const Basis& basis,
                         const std::uint8_t* payload, float* coefficients) {
  kernels.decode[codec_index(Int8::kWireId)](coefficient_args(basis.rank, payload, coefficients));
}

} // namespace

std::size_t coefficient_bytes(const Basis& basis, std::size_t count) {
  if (basis.rank == 0)
    return 0;
  if (basis.rank > kGreatestRank)
    throw InvalidArgument("a basis has at most " + std::to_string(kGreatestRank) +
                          " vectors, not " + std::to_string(basis.rank));
  if (basis.columns < basis.rank || count % basis.columns != 0)
    throw InvalidArgument("a basis of " + std::to_string(basis.rank) + " vectors of " +
                          std::to_string(basis.columns) + " values does not fit " +
                          std::to_string(count) + " values");
  return groups_in(basis, count) * group_bytes(basis.rank);
}

FoldArgs input_args(const EncodeArgs& args, std::size_t first, std::size_t count, float* out) {
  const void* residual = args.held || args.on_device.in_x ? nullptr : args.residual_in;
  return {.x = value_at(args.x, args.dtype, first),
          .dtype = args.dtype,
          .n = count,
          .scale = args.scale,
          .residual = value_at(residual, args.residual_dtype, first),
          .residual_dtype = args.residual_dtype,
          .out = out,
          .used = args.on_device.used};
}

EncodeArgs rest_args(const Basis& basis, const EncodeArgs& args, const float* rest) {
  EncodeArgs found = args;
  found.x = rest;
  found.dtype = DType::fp32;
  found.scale = 1;
  found.residual_in = args.held || args.on_device.used ? args.residual_in : nullptr;
  found.on_device.in_x = true;
  found.payload += coefficient_bytes(basis, args.n);
  found.gain = kRestGain;
  return found;
}

DecodeArgs rest_args(const Basis& basis, const DecodeArgs& args, float* rest) {
  DecodeArgs found = args;
  found.payload += coefficient_bytes(basis, args.n);
  found.out = rest;
  found.dtype = DType::fp32;
  return found;
}

std::size_t encode_values(const KernelTable& kernels, const Basis& basis, const EncodeArgs& args) {
  const auto encode = kernels.encode[codec_index(args.spec.wire_id)];
  if (basis.rank == 0)
    return encode(args);
  float* values = scratch(args.n);
  float coefficients[kGreatestRank * kGroupRows];
  std::uint8_t* payload = args.payload;
  std::size_t nonfinite = 0;
  by_groups(args.n / basis.columns, [&](std::size_t row, std::size_t rows) {
    const std::size_t first = row * basis.columns, count = rows * basis.columns;
    float* group = values + first;
    kernels.fold(input_args(args, first, count, group));
    kernels.basis.project(basis, group, rows, coefficients);
    nonfinite += encode_coefficients(kernels, basis, coefficients, payload);
    decode_coefficients(kernels, basis, payload, coefficients);
    kernels.basis.subtract(basis, coefficients, rows, group);
    payload += group_bytes(basis.rank);
  });
  return nonfinite + encode(rest_args(basis, args, values));
}

void decode_values(const KernelTable& kernels, const Basis& basis, const DecodeArgs& args) {
  const auto decode = kernels.decode[codec_index(args.spec.wire_id)];
  if (basis.rank == 0)
    return decode(args);
  const bool is_fp32 = args.dtype == DType::fp32;
  float* values = is_fp32 ? static_cast<float*>(args.out) : scratch(args.n);
  if (!is_fp32 && args.accumulate)
    to_fp32(kernels, args.out, args.dtype, args.n, values);
  decode(rest_args(basis, args, values));
  float coefficients[kGreatestRank * kGroupRows];
  const std::uint8_t* payload = args.payload;
  by_groups(args.n / basis.columns, [&](std::size_t first, std::size_t rows) {
    decode_coefficients(kernels, basis, payload, coefficients);
    kernels.basis.add(basis, coefficients, rows, values + first * basis.columns);
    payload += group_bytes(basis.rank);
  });
  if (!is_fp32)
    from_fp32(kernels, values, args.n, args.out, args.dtype);
}

void learn_basis(const Basis& basis, const void* matrix, DType dtype, std::size_t rows,
                 float* moments) {
  const FloatEnvironment environment;
  const KernelTable& kernels = active_kernels();
  if (dtype == DType::fp32)
    return kernels.basis.learn(basis, static_cast<const float*>(matrix), rows, moments);
  float* values = scratch(kGroupRows * basis.columns);
  by_groups(rows, [&](std::size_t first, std::size_t some) {
    const void* part = value_at(matrix, dtype, first * basis.columns);
    to_fp32(kernels, part, dtype, some * basis.columns, values);
    kernels.basis.learn(basis, values, some, moments);
  });
}

void spread_rest(const Basis& basis, void* matrix, DType dtype, std::size_t rows, float share,
                 const std::uint16_t* before, std::uint16_t* after) {
  const FloatEnvironment environment;
  const KernelTable& kernels = active_kernels();
  if (kernels.is_zero(matrix, rows * basis.columns, dtype)) {
    if (after != before)
      std::copy_n(before, rows * basis.columns, after);
    return;
  }
  by_groups(rows, [&](std::size_t row, std::size_t some) {
    const std::size_t first = row * basis.columns, count = some * basis.columns;
    void* part = value_at(matrix, dtype, first);
    const bool is_fp32 = dtype == DType::fp32;
    float* values = is_fp32 ? static_cast<float*>(part) : scratch(count);
    if (!is_fp32)
      to_fp32(kernels, part, dtype, count, values);
    kernels.basis.spread(basis, values, some, share, before + first, after + first);
    if (!is_fp32)
      from_fp32(kernels, values, count, part, dtype);
  });
}

void turn_basis(const Basis& basis, const float* moments, float* next) {
  const FloatEnvironment environment;
  active_kernels().basis.turn(basis, moments, next);
}

void begin_basis(std::size_t columns, std::size_t rank, std::uint64_t key, float* vectors) {
  const FloatEnvironment environment;
  active_kernels().basis.begin(columns, rank, key, vectors);
}

} // namespace thinwire
