// How data is cut into chunks: an algorithm and its sizes (docs/wire/chunking.md).
#pragma once

#include <cstdint>
#include <string>

namespace thinwire {

enum class Cutting { native, fastcdc2020, fixed, aligned };

struct Profile {
  Cutting cutting;
  std::uint64_t min, average, max; // bytes of a chunk

  // Zero stands for the default. Throws InvalidArgument, which names the parameter, for sizes that
  // the algorithm does not take, and for an unknown name.
  static Profile make(const std::string& name, std::uint64_t min = 0, std::uint64_t average = 0,
                      std::uint64_t max = 0);
};

} // namespace thinwire
