// Everything from the standard library comes before the region: code of it that is compiled for
// avx2 must not exist.
#include <array>
#include <cstring>
#include <immintrin.h>
#include <string>
#include <type_traits>
#include <vector>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,f16c,fma")
#endif

#include "dispatch/kernel_table.hpp"

#define THINWIRE_TARGET avx2
#define THINWIRE_SIMD "dispatch/simd_avx2.inl"
#include "dispatch/kernels.inl"

#if defined(__clang__)
#pragma clang attribute pop
#endif
