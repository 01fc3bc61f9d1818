#include "dispatch/basis_codec.hpp"

#include "core/error.hpp"
#include "core/float_env.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace thinwire {
namespace {

// A block holds what one group of rows has of one vector.
const CodecSpec& coefficient_codec() {
  static const CodecSpec spec = CodecSpec::make(Int8::kName, kGroupRows);
  return spec;
}

// What a basis leaves over is mostly noise. A codec that knows one magnitude a block sends less of
// it than would leave the least error behind: an optimizer that divides by the size of what it sees
// (Adam) is better served so. docs/basis.md
constexpr float kRestGain = 0.625f;

// Of the coefficients of one group.
std::size_t group_bytes(const Basis& basis) {
  return coefficient_codec().payload_bytes(basis.rank * kGroupRows);
}

std::size_t groups_in(const Basis& basis, std::size_t values) {
  return ceil_div(values / basis.columns, kGroupRows);
}

// Calls f with each group's first value and rows.
template <class Function> void by_groups(const Basis& basis, std::size_t values, Function f) {
  const std::size_t rows = values / basis.columns;
  for (std::size_t first = 0; first < rows; first += kGroupRows)
    f(first * basis.columns, std::min(kGroupRows, rows - first));
}

// Memory that a thread keeps from one segment to the next.
float* scratch(std::size_t values) {
  static thread_local std::vector<float> memory;
  if (memory.size() < values)
    memory.resize(values);
  return memory.data();
}

// Rounds the coefficients as they travel. Returns how many blocks were not finite.
std::size_t encode_coefficients(const KernelTable& kernels, const Basis& basis,
                                const float* coefficients, std::uint8_t* payload) {
  return kernels.encode[codec_index(Int8::kWireId)]({.x = coefficients,
                                                     .dtype = DType::fp32,
                                                     .n = basis.rank * kGroupRows,
                                                     .scale = 1,
                                                     .residual_in = nullptr,
                                                     .residual_out = nullptr,
                                                     .residual_dtype = DType::fp32,
                                                     .held = false,
                                                     .spec = coefficient_codec(),
                                                     .key = 0,
                                                     .step = 0,
                                                     .payload = payload});
}

void decode_coefficients(const KernelTable& kernels, const Basis& basis,
                         const std::uint8_t* payload, float* coefficients) {
  kernels.decode[codec_index(Int8::kWireId)]({.payload = payload,
                                              .n = basis.rank * kGroupRows,
                                              .spec = coefficient_codec(),
                                              .out = coefficients,
                                              .dtype = DType::fp32,
                                              .accumulate = false});
}

void to_fp32(const KernelTable& kernels, const void* x, DType dtype, std::size_t n, float* out) {
  kernels.fold({.x = x,
                .dtype = dtype,
                .n = n,
                .scale = 1,
                .residual = nullptr,
                .residual_dtype = DType::fp32,
                .out = out});
}

// values = x * scale + residual, `count` of them from `first` on.
void fold_group(const KernelTable& kernels, const EncodeArgs& args, std::size_t first,
                std::size_t count, float* values) {
  const auto part = [first](const void* base, DType dtype) -> const void* {
    return base ? static_cast<const std::byte*>(base) + first * element_bytes(dtype) : nullptr;
  };
  kernels.fold({.x = part(args.x, args.dtype),
                .dtype = args.dtype,
                .n = count,
                .scale = args.scale,
                .residual = args.held ? nullptr : part(args.residual_in, args.residual_dtype),
                .residual_dtype = args.residual_dtype,
                .out = values});
}

// fp32 values to a tensor of another dtype: what decoding raw ones does.
void from_fp32(const KernelTable& kernels, const float* values, std::size_t n, void* out,
               DType dtype) {
  kernels.decode[codec_index(Raw::kWireId)](
      {.payload = reinterpret_cast<const std::uint8_t*>(values),
       .n = n,
       .spec = CodecSpec{},
       .out = out,
       .dtype = dtype,
       .accumulate = false});
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
  return groups_in(basis, count) * group_bytes(basis);
}

std::size_t encode_values(const KernelTable& kernels, const Basis& basis, const EncodeArgs& args) {
  const auto encode = kernels.encode[codec_index(args.spec.wire_id)];
  if (basis.rank == 0)
    return encode(args);
  float* values = scratch(args.n);
  float coefficients[kGreatestRank * kGroupRows];
  std::uint8_t* payload = args.payload;
  std::size_t nonfinite = 0;
  by_groups(basis, args.n, [&](std::size_t first, std::size_t rows) {
    const std::size_t count = rows * basis.columns;
    float* group = values + first;
    fold_group(kernels, args, first, count, group);
    kernels.basis.project(basis, group, rows, coefficients);
    nonfinite += encode_coefficients(kernels, basis, coefficients, payload);
    decode_coefficients(kernels, basis, payload, coefficients);
    kernels.basis.subtract(basis, coefficients, rows, group);
    payload += group_bytes(basis);
  });
  EncodeArgs rest = args;
  rest.x = values;
  rest.dtype = DType::fp32;
  rest.scale = 1;
  rest.residual_in = args.held ? args.residual_in : nullptr;
  rest.payload = payload;
  rest.gain = kRestGain;
  return nonfinite + encode(rest);
}

void decode_values(const KernelTable& kernels, const Basis& basis, const DecodeArgs& args) {
  const auto decode = kernels.decode[codec_index(args.spec.wire_id)];
  if (basis.rank == 0)
    return decode(args);
  const bool is_fp32 = args.dtype == DType::fp32;
  float* values = is_fp32 ? static_cast<float*>(args.out) : scratch(args.n);
  if (!is_fp32 && args.accumulate)
    to_fp32(kernels, args.out, args.dtype, args.n, values);
  DecodeArgs rest = args;
  rest.payload += coefficient_bytes(basis, args.n);
  rest.out = values;
  rest.dtype = DType::fp32;
  decode(rest);
  float coefficients[kGreatestRank * kGroupRows];
  const std::uint8_t* payload = args.payload;
  by_groups(basis, args.n, [&](std::size_t first, std::size_t rows) {
    decode_coefficients(kernels, basis, payload, coefficients);
    kernels.basis.add(basis, coefficients, rows, values + first);
    payload += group_bytes(basis);
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
  by_groups(basis, rows * basis.columns, [&](std::size_t first, std::size_t some) {
    const auto* part = static_cast<const std::byte*>(matrix) + first * element_bytes(dtype);
    to_fp32(kernels, part, dtype, some * basis.columns, values);
    kernels.basis.learn(basis, values, some, moments);
  });
}

void spread_rest(const Basis& basis, void* matrix, DType dtype, std::size_t rows, float share,
                 const std::uint16_t* before, std::uint16_t* after) {
  const FloatEnvironment environment;
  const KernelTable& kernels = active_kernels();
  by_groups(basis, rows * basis.columns, [&](std::size_t first, std::size_t some) {
    std::byte* part = static_cast<std::byte*>(matrix) + first * element_bytes(dtype);
    const std::size_t count = some * basis.columns;
    const bool is_fp32 = dtype == DType::fp32;
    float* values = is_fp32 ? reinterpret_cast<float*>(part) : scratch(count);
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
