// What a field of a record can hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace thinwire {

enum class ValueType : std::uint8_t {
  boolean,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  fp16,
  bf16,
  fp32,
  fp64,
};

// By NumPy's name: "bool", "int8", "float16", "bfloat16". Throws InvalidArgument for others.
ValueType value_type(const std::string& name);

std::size_t value_bytes(ValueType type);
bool is_signed_integer(ValueType type);

} // namespace thinwire
