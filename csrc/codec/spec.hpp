// A codec together with its parameters.
#pragma once

#include "codec/codec_list.hpp"

#include <optional>
#include <string>
#include <vector>

namespace thinwire {

enum class Rounding : std::uint8_t { nearest = 0, stochastic = 1 };

struct CodecSpec {
  std::uint8_t wire_id = Raw::kWireId;
  Rounding rounding = Rounding::nearest;
  TopKValues values = TopKValues::sign;
  Fp8Format format = Fp8Format::e4m3;
  bool rotate = false;       // codecs with kHasRotation
  std::uint32_t block = 0;   // block codecs
  std::uint32_t density = 0; // topk, in millionths

  bool operator==(const CodecSpec&) const = default;

  // Builds and checks one by name. Zero, "" and nothing stand for the codec's default. Throws
  // InvalidArgument, which says what exists, for an unknown name, a parameter the codec does not
  // have, or a value out of range.
  static CodecSpec make(const std::string& name, std::uint32_t block = 0,
                        const std::string& rounding = "", double density = 0,
                        const std::string& values = "", const std::string& format = "",
                        std::optional<bool> rotate = std::nullopt);

  const char* name() const;
  std::uint32_t param() const;                    // the frame's param field
  std::size_t payload_bytes(std::size_t n) const; // exact
  CodecSpec resolve(std::size_t n) const;         // raw where that is no larger for n values
  double ratio() const;                           // fp32 bytes over payload bytes, for large n
  double error_bound() const;
  ErrorNorm error_norm() const;
  bool has_block() const;
  std::uint32_t smallest_block() const; // of a block codec
  unsigned radix() const;               // of a block codec's codes
  bool has_rounding() const;
  bool has_density() const;
  bool has_format() const;
  bool has_rotation() const;
};

// Every codec with its default parameters, in registry order.
const std::vector<CodecSpec>& codec_defaults();

const char* name(Rounding rounding);
const char* name(TopKValues values);
const char* name(Fp8Format format);

} // namespace thinwire
