// What a kernel is: a struct with
//   units(args)                    how many units of work a segment has
//   scratch(args)                  floats of fast memory that a warp needs, at most kMostScratch
//   operator()(team, item, unit, scratch)    what a warp does for one unit
// The first two are called on the host.
#pragma once

#include "dispatch/warp_values.hpp"

namespace thinwire::lane {

// Of all warps of a block together: 16 KiB, so that every architecture has room for four or more.
inline constexpr std::size_t kMostScratch = 4096;

// A segment to encode or decode, and its working memory (only topk has any).
template <class Args> struct Item {
  Args args;
  std::byte* work;
};

// What only the device knows of a segment, before its first unit.
template <class Args> THINWIRE_TEAM void settle(Args&) {}

THINWIRE_TEAM void settle(EncodeArgs& a) {
  if (a.on_device.used != nullptr)
    a.held = *a.on_device.used == 0;
  if (a.on_device.in_x && !a.held)
    a.residual_in = nullptr;
}

THINWIRE_TEAM void settle(FoldArgs& a) {
  if (a.used != nullptr && *a.used == 0)
    a.residual = nullptr;
}

struct NoScratch {
  template <class Args> static constexpr std::size_t scratch(const Args&) { return 0; }
};

} // namespace thinwire::lane
