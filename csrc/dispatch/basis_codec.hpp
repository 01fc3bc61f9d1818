// Values in two parts: coefficients along a shared basis, and the rest through a codec.
// docs/basis.md; the payload is docs/wire/basis.md
#pragma once

#include "dispatch/kernel_table.hpp"

namespace thinwire {

// What one group of rows has of one vector is a block of int8.
THINWIRE_HD constexpr CodecSpec coefficient_codec() {
  CodecSpec spec;
  spec.wire_id = Int8::kWireId;
  spec.block = kGroupRows;
  return spec;
}

// Of the coefficients of one group of rows.
THINWIRE_HD constexpr std::size_t group_bytes(std::size_t rank) {
  return block_sections(rank * kGroupRows, kGroupRows, Int8::kRadix).bytes;
}

// What int8's kernels are told to encode or decode the coefficients of one group.
THINWIRE_HD EncodeArgs coefficient_args(std::size_t rank, const float* coefficients,
                                        std::uint8_t* payload) {
  return {.x = coefficients,
          .dtype = DType::fp32,
          .n = rank * kGroupRows,
          .scale = 1,
          .residual_in = nullptr,
          .residual_out = nullptr,
          .residual_dtype = DType::fp32,
          .held = false,
          .spec = coefficient_codec(),
          .key = 0,
          .step = 0,
          .payload = payload};
}
THINWIRE_HD DecodeArgs coefficient_args(std::size_t rank, const std::uint8_t* payload,
                                        float* coefficients) {
  return {.payload = payload,
          .n = rank * kGroupRows,
          .spec = coefficient_codec(),
          .out = coefficients,
          .dtype = DType::fp32,
          .accumulate = false};
}

// Bytes of the coefficients of `count` values, 0 without a basis. Throws InvalidArgument where the
// values are not whole rows, or the rank is above what there is room for.
std::size_t coefficient_bytes(const Basis& basis, std::size_t count);

// y, the encoder's input, `count` values from `first` on.
FoldArgs input_args(const EncodeArgs& args, std::size_t first, std::size_t count, float* out);
// What the codec is told of the rest, which is what a basis leaves over.
EncodeArgs rest_args(const Basis& basis, const EncodeArgs& args, const float* rest);
DecodeArgs rest_args(const Basis& basis, const DecodeArgs& args, float* rest);

// The kernels' encode and decode, with the coefficients before the codec's payload.
std::size_t encode_values(const KernelTable& kernels, const Basis& basis, const EncodeArgs& args);
void decode_values(const KernelTable& kernels, const Basis& basis, const DecodeArgs& args);

// Adds what `rows` rows of a matrix tell to the moments: rank vectors of `columns` values.
void learn_basis(const Basis& basis, const void* matrix, DType dtype, std::size_t rows,
                 float* moments);
// Leaves in `rows` rows of a matrix a share of what they, and `before`, have beside the basis; the
// rest becomes `after`. Both are as many bf16 values as the matrix has, and may be the same memory.
// A matrix of zeros stays as it is, and hands over nothing.
void spread_rest(const Basis& basis, void* matrix, DType dtype, std::size_t rows, float share,
                 const std::uint16_t* before, std::uint16_t* after);
// Writes the basis of the next step to `next`.
void turn_basis(const Basis& basis, const float* moments, float* next);
// Writes the basis of the first step to `vectors`: the same on all ranks for the same key.
void begin_basis(std::size_t columns, std::size_t rank, std::uint64_t key, float* vectors);

} // namespace thinwire
