// Values in two parts: coefficients along a shared basis, and the rest through a codec.
// docs/basis.md; the payload is docs/wire/basis.md
#pragma once

#include "dispatch/kernel_table.hpp"

namespace thinwire {

// Bytes of the coefficients of `count` values, 0 without a basis. Throws InvalidArgument where the
// values are not whole rows, or the rank is above what there is room for.
std::size_t coefficient_bytes(const Basis& basis, std::size_t count);

// The kernels' encode and decode, with the coefficients before the codec's payload.
std::size_t encode_values(const KernelTable& kernels, const Basis& basis, const EncodeArgs& args);
void decode_values(const KernelTable& kernels, const Basis& basis, const DecodeArgs& args);

// Adds what `rows` rows of a matrix tell to the moments: rank vectors of `columns` values.
void learn_basis(const Basis& basis, const void* matrix, DType dtype, std::size_t rows,
                 float* moments);
// Leaves in `rows` rows of a matrix a share of what they, and `before`, have beside the basis; the
// rest becomes `after`. Both are as many bf16 values as the matrix has, and may be the same memory.
void spread_rest(const Basis& basis, void* matrix, DType dtype, std::size_t rows, float share,
                 const std::uint16_t* before, std::uint16_t* after);
// Writes the basis of the next step to `next`.
void turn_basis(const Basis& basis, const float* moments, float* next);
// Writes the basis of the first step to `vectors`: the same on all ranks for the same key.
void begin_basis(std::size_t columns, std::size_t rank, std::uint64_t key, float* vectors);

} // namespace thinwire
