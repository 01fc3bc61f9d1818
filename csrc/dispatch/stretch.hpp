// Values that lie one after another.
#pragma once

#include <cstddef>

namespace thinwire {

struct Stretch {
  const void* values;
  std::size_t count;
};

} // namespace thinwire
