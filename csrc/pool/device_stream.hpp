// A stream of a CUDA device.
#pragma once

#include "core/cuda_stream.hpp"

#include <compare>

namespace thinwire {

struct DeviceStream {
  int device = 0;
  cuda::Stream stream = nullptr; // the legacy default stream is one as well

  auto operator<=>(const DeviceStream&) const = default;
};

} // namespace thinwire
