// What the callers of the frame functions pass as lists.
#pragma once

#include "bind/bind.hpp"

#include "dispatch/frame_codec.hpp"

#include <optional>
#include <vector>

namespace thinwire::bind {

using Addresses = std::optional<std::vector<Address>>;
using Flags = std::optional<std::vector<bool>>;

// The lists a caller passed, in the form FrameValues points at.
class Values {
public:
  Values(Address x, int dtype, float scale, const Addresses& residual_in,
         const Addresses& residual_out, int residual_dtype, const Flags& held)
      : in_(pointers(residual_in)), out_(pointers(residual_out)) {
    if (held)
      held_.assign(held->begin(), held->end());
    view = {pointer(x), dtype_of(dtype), scale, in_, out_, dtype_of(residual_dtype), held_};
  }
  FrameValues view;

private:
  static std::vector<void*> pointers(const Addresses& addresses) {
    std::vector<void*> found;
    if (addresses)
      for (Address address : *addresses)
        found.push_back(pointer(address));
    return found;
  }
  std::vector<void*> in_, out_;
  std::vector<std::uint8_t> held_;
};

} // namespace thinwire::bind
