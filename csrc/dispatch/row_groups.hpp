// What work on a matrix, group of rows after group, has in common (docs/basis.md,
// docs/powersgd.md).
#pragma once

#include "dispatch/kernel_table.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace thinwire {

// Calls f with each group's first row and its number of rows.
template <class Function> void by_groups(std::size_t rows, Function f) {
  for (std::size_t first = 0; first < rows; first += kGroupRows)
    f(first, std::min(kGroupRows, rows - first));
}

// Where a value lies in an array that may be absent.
inline const void* value_at(const void* base, DType dtype, std::size_t index) {
  return base ? static_cast<const std::byte*>(base) + index * element_bytes(dtype) : nullptr;
}
inline void* value_at(void* base, DType dtype, std::size_t index) {
  return base ? static_cast<std::byte*>(base) + index * element_bytes(dtype) : nullptr;
}

// Memory that a thread keeps from one call to the next.
inline float* scratch(std::size_t values) {
  static thread_local std::vector<float> memory;
  if (memory.size() < values)
    memory.resize(values);
  return memory.data();
}

inline void to_fp32(const KernelTable& kernels, const void* x, DType dtype, std::size_t n,
                    float* out) {
  kernels.fold({.x = x,
                .dtype = dtype,
                .n = n,
                .scale = 1,
                .residual = nullptr,
                .residual_dtype = DType::fp32,
                .out = out});
}

// fp32 values to a tensor of another dtype: what decoding raw ones does.
inline void from_fp32(const KernelTable& kernels, const float* values, std::size_t n, void* out,
                      DType dtype) {
  kernels.decode[codec_index(Raw::kWireId)](
      {.payload = reinterpret_cast<const std::uint8_t*>(values),
       .n = n,
       .spec = CodecSpec{},
       .out = out,
       .dtype = dtype,
       .accumulate = false});
}

} // namespace thinwire
