// Everything from the standard library comes before the region: code of it that is compiled for
// avx512 must not exist.
#include <array>
#include <cstring>
#include <immintrin.h>
#include <string>
#include <type_traits>
#include <vector>

#if !defined(__clang__) // GCC 12 warns of its own AVX-512 headers (GCC bug 105593)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#if defined(__clang__)
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,f16c,avx2,fma"))),                   \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,f16c,avx2,fma")
#endif

#include "dispatch/kernel_table.hpp"

#define THINWIRE_TARGET avx512
#define THINWIRE_SIMD "dispatch/simd_avx512.inl"
#include "dispatch/kernels.inl"

#if defined(__clang__)
#pragma clang attribute pop
#endif
