// raw, fp16, bf16: every value on its own, in another (or the same) floating-point format.
// docs/wire/{raw,fp16,bf16}.md
#pragma once

#include "codec/block_codec.hpp"

namespace thinwire {

struct Raw {
  static constexpr const char* kName = "raw";
  static constexpr std::uint8_t kWireId = 0;
  static constexpr DType kElement = DType::fp32;
  static constexpr double kErrorBound = 0;
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::max;
};

struct Fp16 {
  static constexpr const char* kName = "fp16";
  static constexpr std::uint8_t kWireId = 1;
  static constexpr DType kElement = DType::fp16;
  static constexpr double kErrorBound = 0x1p-11; // for magnitudes from 2^-14 to 65504
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::max;
};

struct Bf16 {
  static constexpr const char* kName = "bf16";
  static constexpr std::uint8_t kWireId = 2;
  static constexpr DType kElement = DType::bf16;
  static constexpr double kErrorBound = 0x1p-8;
  static constexpr ErrorNorm kErrorNorm = ErrorNorm::max;
};

} // namespace thinwire
