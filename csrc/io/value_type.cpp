#include "io/value_type.hpp"

#include "core/error.hpp"

namespace thinwire {
namespace {

struct Description {
  const char* name;
  std::size_t bytes;
};

// In the order of ValueType.
constexpr Description kTypes[] = {
    {"bool", 1},     {"int8", 1},    {"int16", 2},   {"int32", 4},  {"int64", 8},
    {"uint8", 1},    {"uint16", 2},  {"uint32", 4},  {"uint64", 8}, {"float16", 2},
    {"bfloat16", 2}, {"float32", 4}, {"float64", 8},
};

} // namespace

ValueType value_type(const std::string& name) {
  for (std::size_t i = 0; i < std::size(kTypes); ++i)
    if (name == kTypes[i].name)
      return static_cast<ValueType>(i);
  throw InvalidArgument("values of type " + name + " cannot be summarised");
}

std::size_t value_bytes(ValueType type) { return kTypes[static_cast<std::size_t>(type)].bytes; }

bool is_signed_integer(ValueType type) {
  return type >= ValueType::int8 && type <= ValueType::int64;
}

} // namespace thinwire
