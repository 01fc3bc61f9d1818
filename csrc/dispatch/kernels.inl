// All CPU kernels of one target. A target_*.cpp defines THINWIRE_TARGET (its namespace) and
// THINWIRE_SIMD (its vocabulary of vectors), opens its region and includes this. Everything here is
// in an unnamed namespace and nothing but types comes from the standard library: code that is
// compiled for one target must not be what the linker keeps for another.

#include "dispatch/block_coding.hpp"

#if defined(__clang__)
#define THINWIRE_LAMBDA
#else
#define THINWIRE_LAMBDA __attribute__((always_inline))
#endif

namespace thinwire::THINWIRE_TARGET {
namespace {

#include THINWIRE_SIMD

#include "dispatch/values.inl"

#include "dispatch/rotation.inl"

#include "dispatch/basis_kernels.inl"
#include "dispatch/block_kernels.inl"
#include "dispatch/boundary_kernels.inl"
#include "dispatch/cast_kernels.inl"
#include "dispatch/topk_kernels.inl"

template <class... C> constexpr KernelTable table_of(CodecList<C...>) {
  return {{encode<C>...},
          {decode<C>...},
          fold,
          is_zero,
          count_nonfinite,
          {project, expand<true>, expand<false>, combine, learn, spread, turn, begin, orthonormal},
          find_boundaries};
}

} // namespace

extern const KernelTable& kernels();
const KernelTable& kernels() {
  static constexpr KernelTable table = table_of(Codecs{});
  return table;
}

} // namespace thinwire::THINWIRE_TARGET
