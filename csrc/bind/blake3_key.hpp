// The optional key of BLAKE3, as Python passes it.
#pragma once

#include "bind/held_bytes.hpp"
#include "hash/blake3.hpp"

#include <algorithm>
#include <optional>

namespace thinwire::bind {

// Throws InvalidArgument for a key of another length.
inline std::optional<Blake3Key> blake3_key(const std::optional<py::buffer>& key) {
  if (!key)
    return std::nullopt;
  const HeldBytes held(*key);
  Blake3Key fixed;
  if (held.bytes().size() != fixed.size())
    throw InvalidArgument("a BLAKE3 key has " + std::to_string(fixed.size()) +
                          " bytes, this one has " + std::to_string(held.bytes().size()));
  std::ranges::copy(held.bytes(), fixed.begin());
  return fixed;
}

} // namespace thinwire::bind
