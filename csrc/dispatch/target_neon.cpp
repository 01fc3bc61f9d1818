// NEON is part of arm64's baseline, so that no region is needed.
#include "dispatch/kernel_table.hpp"

#include <arm_neon.h>
#include <cstring>

#define THINWIRE_TARGET neon
#define THINWIRE_SIMD "dispatch/simd_neon.inl"
#include "dispatch/kernels.inl"
