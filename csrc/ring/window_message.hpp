// Frames by which ranks talk about windows.
#pragma once

#include "ring/operation.hpp"
#include "wire/window.hpp"

#include <string>

namespace thinwire {

struct AboutWindow {
  WindowMessage kind;
  std::uint32_t window;     // its owner's number
  std::uint64_t number = 0; // its bytes, or an offset in it
  std::string text = {};    // its handle, or a reason
};

void tell(Wires& wires, int peer, const AboutWindow& message);
// Throws CorruptFrame.
AboutWindow about_window(const FrameHeader& header, const std::byte* payload);

} // namespace thinwire
