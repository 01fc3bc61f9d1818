#include "io/summary.hpp"

#include "core/float_env.hpp"
#include "core/inline.hpp"
#include "io/summary_kernel.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace thinwire {
namespace {

struct Fp16 {
  std::uint16_t bits;
};
struct Bf16 {
  std::uint16_t bits;
};

constexpr std::size_t kByteValues = 256, kManyBytes = 4 * kByteValues;

template <class Wide, class Stored> THINWIRE_INLINE Wide widen(Stored value) {
  return static_cast<Wide>(value);
}
template <> THINWIRE_INLINE float widen(Fp16 value) { return from_fp16(value.bits); }
template <> THINWIRE_INLINE float widen(Bf16 value) { return from_bf16(value.bits); }

} // namespace

void FieldSummary::add(const Values& values, ValueType type) {
  const FloatEnvironment environment;
  switch (type) {
  case ValueType::boolean:
  case ValueType::uint8:
    return add_bytes<std::uint8_t>(values);
  case ValueType::int8:
    return add_bytes<std::int8_t>(values);
  case ValueType::int16:
    return add_rows<std::int16_t, float>(values);
  case ValueType::uint16:
    return add_rows<std::uint16_t, float>(values);
  case ValueType::int32:
    return add_rows<std::int32_t, double>(values);
  case ValueType::uint32:
    return add_rows<std::uint32_t, double>(values);
  case ValueType::int64:
    return add_rows<std::int64_t, double>(values);
  case ValueType::uint64:
    return add_rows<std::uint64_t, double>(values);
  case ValueType::fp16:
    return add_rows<Fp16, float>(values);
  case ValueType::bf16:
    return add_rows<Bf16, float>(values);
  case ValueType::fp32:
    return add_rows<float, float>(values);
  case ValueType::fp64:
    return add_rows<double, double>(values);
  }
}

void FieldSummary::add(const double* values, std::size_t count) {
  add({reinterpret_cast<const std::byte*>(values), 1, 0, count}, ValueType::fp64);
}

// Blocks are filled across rows, so that a field of one value a row is as good as an array.
template <class Stored, class Wide> void FieldSummary::add_rows(const Values& values) {
  const std::size_t row_bytes = values.count * sizeof(Stored);
  const bool packed = values.stride == row_bytes;
  const std::size_t runs = packed ? 1 : values.rows;
  const std::size_t run = packed ? values.rows * values.count : values.count;
  alignas(64) Wide block[kSummaryBlock];
  std::size_t filled = 0;
  for (std::size_t r = 0; r < runs; ++r) {
    const std::byte* from = values.first + r * values.stride;
    for (std::size_t left = run; left > 0;) {
      const std::size_t taken = std::min(left, kSummaryBlock - filled);
      for (std::size_t i = 0; i < taken; ++i) {
        Stored value;
        std::memcpy(&value, from + i * sizeof value, sizeof value);
        block[filled + i] = widen<Wide>(value);
      }
      from += taken * sizeof(Stored);
      left -= taken;
      filled += taken;
      if (filled == kSummaryBlock)
        add_block(block, std::exchange(filled, 0));
    }
  }
  add_block(block, filled);
}

// Bytes have few values: where there are many of them, each value is counted first.
template <class Stored> void FieldSummary::add_bytes(const Values& values) {
  if (values.rows * values.count < kManyBytes)
    return add_rows<Stored, float>(values);
  std::uint64_t times[4][kByteValues] = {}; // four, as equal bytes wait for each other
  for (std::size_t r = 0; r < values.rows; ++r) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(values.first + r * values.stride);
    std::size_t i = 0;
    for (; i + 4 <= values.count; i += 4)
      for (std::size_t k = 0; k < 4; ++k)
        ++times[k][bytes[i + k]];
    for (; i < values.count; ++i)
      ++times[0][bytes[i]];
  }
  for (std::size_t byte = 0; byte < kByteValues; ++byte)
    add_times(static_cast<Stored>(byte),
              times[0][byte] + times[1][byte] + times[2][byte] + times[3][byte]);
}

// A finite value that occurs so often.
void FieldSummary::add_times(float value, std::uint64_t times) {
  if (times == 0)
    return;
  if (missing_ && value == *missing_)
    return add_missing(times);
  counters_.values += times;
  counters_.zeros += value == 0 ? times : 0;
  counters_.least = std::min<double>(counters_.least, value);
  counters_.greatest = std::max<double>(counters_.greatest, value);
  counters_.moments.merge({times, value, 0});
  bins_[bin_of_bits(float_bits(value))] += times;
}

template <class Wide> void FieldSummary::add_block(Wide* block, std::size_t count) {
  if (missing_) {
    Wide* kept =
        std::remove_if(block, block + count, [&](Wide value) { return value == *missing_; });
    counters_.missing += static_cast<std::uint64_t>(block + count - kept);
    count = static_cast<std::size_t>(kept - block);
  }
  if (count > 0)
    summarise_block(block, count, counters_, bins_.data());
}

Histogram FieldSummary::histogram() const {
  Histogram found = bins_;
  found[kZeroBin] += std::exchange(found[kNegativeZeroBin], 0);
  return found;
}

} // namespace thinwire
