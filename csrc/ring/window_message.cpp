#include "ring/window_message.hpp"

#include <algorithm>
#include <cstring>

namespace thinwire {
namespace {

constexpr std::size_t kMostText = 4096;

} // namespace

void tell(Wires& wires, int peer, const AboutWindow& message) {
  FrameHeader header = header_of({}, wires.group(), wires.rank());
  header.codec = kWindowCodecId;
  header.phase = static_cast<std::uint8_t>(message.kind);
  header.slice = message.window;
  header.count = message.number;
  header.payload_bytes = std::min(message.text.size(), kMostText);
  if (header.payload_bytes == 0)
    return wires.send(peer, {header, nullptr, {}});
  BlockRef block = wires.pool().take(header.payload_bytes);
  std::memcpy(block->data, message.text.data(), header.payload_bytes);
  wires.send(peer, {header, block->data, block});
}

AboutWindow about_window(const FrameHeader& header, const std::byte* payload) {
  if (header.phase > static_cast<std::uint8_t>(WindowMessage::closed) ||
      header.payload_bytes > kMostText)
    corrupt_frame("not a message about a window of this release");
  return {.kind = static_cast<WindowMessage>(header.phase),
          .window = header.slice,
          .number = header.count,
          .text = {reinterpret_cast<const char*>(payload), header.payload_bytes}};
}

} // namespace thinwire
