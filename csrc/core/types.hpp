// Types every room shares.
#pragma once

#include <cstddef>
#include <cstdint>

// Element math is compiled for every CPU target and for CUDA. It must always be inlined: an
// out-of-line copy compiled for AVX-512 could be the one the linker keeps for everybody.
#if defined(__CUDACC__)
#define THINWIRE_HD __host__ __device__ __forceinline__
#else
#define THINWIRE_HD inline __attribute__((always_inline))
#endif

namespace thinwire {

// Element types of tensors; the values are the frame's dtype field.
enum class DType : std::uint8_t { fp32 = 0, fp16 = 1, bf16 = 2 };

THINWIRE_HD constexpr std::size_t element_bytes(DType dtype) {
  return dtype == DType::fp32 ? 4 : 2;
}

} // namespace thinwire
