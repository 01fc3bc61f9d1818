#include "dispatch/kernel_table.hpp"

#include <cstring>

#define THINWIRE_TARGET scalar
#define THINWIRE_SIMD "dispatch/simd_scalar.inl"
#include "dispatch/kernels.inl"
