// Frames by which engines talk about the group and its operations, besides the values themselves.
#pragma once

#include "ring/operation.hpp"

#include <string>

namespace thinwire {

enum class ControlKind : std::uint8_t {
  heartbeat = 0, // nothing else was sent for a while
  goodbye = 1,   // the sender closes in an orderly way and sends no more
  failed = 2,    // the group is broken: a Failure
  describe = 3,  // what the sender thinks the operation `key` is: its description
  refused = 4,   // the operation `key` cannot be done: a Failure
  ask = 5,       // whether the receiver has begun the operation `key`: the deadline that passed
  present = 6,   // it has
  absent = 7,    // it has not
};

struct ControlMessage {
  ControlKind kind;
  OperationKey key = {};
  ErrorNumber number = ErrorNumber::other; // of the Failure
  int culprit = -1;                        // of the Failure
  std::string text = {};                   // its reason, the description or the deadline
};

// A frame of codec kControlCodecId. Long texts are cut.
Outgoing control_frame(const ControlMessage& message, std::uint64_t group, int sender,
                       BlockPool& pool);
// Throws CorruptFrame.
ControlMessage control_message(const FrameHeader& header, const std::byte* payload);

} // namespace thinwire
