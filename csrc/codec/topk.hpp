// topk: the greatest few values of a segment, as positions and codes. docs/wire/topk.md
#pragma once

#include "codec/block_codec.hpp"

namespace thinwire {

enum class TopKValues : std::uint8_t { sign = 0, int8 = 1, fp16 = 2 };

struct TopK {
  static constexpr const char* kName = "topk";
  static constexpr std::uint8_t kWireId = 8;
  static constexpr std::uint32_t kDefaultDensity = 30000, kLargestDensity = 500000; // millionths
  static constexpr std::size_t kRow = 256, kGroup = 1024, kMostInRow = 255;
  static constexpr std::size_t kSampleAll = 65536, kSampleChunk = 64, kSampleStride = 64;
  static constexpr std::uint32_t kThresholdStep = 512; // thresholds have their low 9 bits cleared
  // Its other bits are found in two parts of eleven: the leading ones, then the next.
  static constexpr std::size_t kBins = 2048;
  static constexpr unsigned kLeadingShift = 20;
  static constexpr double kErrorBound = 1;
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::l2;

  static THINWIRE_HD constexpr std::size_t code_bits(TopKValues values) {
    return values == TopKValues::sign ? 1 : values == TopKValues::int8 ? 8 : 16;
  }
  static THINWIRE_HD constexpr float divisor(TopKValues values) {
    return values == TopKValues::int8 ? 127.0f : 1.0f;
  }
  // Entries aimed at, and the most that can be sent.
  static THINWIRE_HD constexpr std::size_t target(std::size_t n, std::uint32_t millionths) {
    return ceil_div(n * millionths, 1'000'000);
  }
  static THINWIRE_HD constexpr std::size_t capacity(std::size_t n, std::uint32_t millionths) {
    const std::size_t most = ceil_div(11 * n * millionths, 10'000'000);
    return most < n ? most : n;
  }
};

struct TopKSections {
  std::size_t rows, groups, capacity;
  std::size_t scales, offsets, values; // where the sections start; the counts stand at 0
  std::size_t bytes;                   // size of the payload
};

THINWIRE_HD constexpr TopKSections topk_sections(std::size_t n, std::uint32_t millionths,
                                                 TopKValues values) {
  TopKSections s{};
  s.rows = ceil_div(n, TopK::kRow);
  s.groups = ceil_div(n, TopK::kGroup);
  s.capacity = TopK::capacity(n, millionths);
  s.scales = align16(s.rows);
  s.offsets = s.scales + align16(2 * s.groups);
  s.values = s.offsets + align16(s.capacity);
  s.bytes = s.values + align16(ceil_div(s.capacity * TopK::code_bits(values), 8));
  return s;
}

// Which values the threshold is taken from: every chunk whose number is `phase` modulo `stride`.
struct TopKSample {
  std::size_t stride, phase, chunks, size; // `chunks` of them, with `size` values
  std::size_t rank;                        // of the threshold among these, from 1 for the greatest
};

THINWIRE_HD constexpr TopKSample topk_sample(std::size_t n, std::uint32_t millionths,
                                             std::uint64_t step) {
  const std::size_t all_chunks = ceil_div(n, TopK::kSampleChunk), most = n / TopK::kSampleAll;
  TopKSample s{1, 0, all_chunks, n, 0};
  if (n > TopK::kSampleAll) {
    s.stride = most < TopK::kSampleStride ? most : TopK::kSampleStride;
    s.phase = step % s.stride;
    s.chunks = ceil_div(all_chunks - s.phase, s.stride);
    const bool has_last = (all_chunks - 1) % s.stride == s.phase;
    s.size = s.chunks * TopK::kSampleChunk - (has_last ? all_chunks * TopK::kSampleChunk - n : 0);
  }
  const std::size_t rank = ceil_div(TopK::target(n, millionths) * s.size, n);
  s.rank = rank > 1 ? rank : 1;
  return s;
}

// The threshold from its two parts.
THINWIRE_HD constexpr std::uint32_t topk_bound(std::uint32_t leading, std::uint32_t next) {
  const std::uint32_t bound = leading << TopK::kLeadingShift | next * TopK::kThresholdStep;
  if (bound == 0)
    return 1;                                           // zeros are never sent
  return bound < kInfinityBits ? bound : kInfinityBits; // all that is not finite is alike
}

// What one entry's code decodes to.
template <TopKValues V> THINWIRE_HD float topk_decoded(std::uint16_t code, float scale) {
  if constexpr (V == TopKValues::fp16)
    return from_fp16(code) * scale;
  else if constexpr (V == TopKValues::int8)
    return static_cast<float>(static_cast<std::int8_t>(code)) * scale;
  else
    return bits_float(float_bits(scale) ^ std::uint32_t{code} << 31);
}

} // namespace thinwire
