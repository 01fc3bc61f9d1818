#include "ring/control.hpp"

#include <algorithm>
#include <cstring>

namespace thinwire {
namespace {

constexpr std::size_t kMostText = std::size_t{1} << 16;

} // namespace

// The failure's number stands in `param`, the culprit plus one in `count`.
Outgoing control_frame(const ControlMessage& message, std::uint64_t group, int sender,
                       BlockPool& pool) {
  FrameHeader header = header_of(message.key, group, sender);
  header.codec = kControlCodecId;
  header.phase = static_cast<std::uint8_t>(message.kind);
  header.param = static_cast<std::uint32_t>(message.number);
  header.count = static_cast<std::uint64_t>(message.culprit + 1);
  header.payload_bytes = std::min(message.text.size(), kMostText);
  if (header.payload_bytes == 0)
    return {header, nullptr, {}};
  BlockRef block = pool.take(header.payload_bytes);
  std::memcpy(block->data, message.text.data(), header.payload_bytes);
  return {header, block->data, std::move(block)};
}

ControlMessage control_message(const FrameHeader& header, const std::byte* payload) {
  if (header.phase > static_cast<std::uint8_t>(ControlKind::absent) || header.count > 1u << 20 ||
      header.payload_bytes > kMostText)
    corrupt_frame("not a control message of this release");
  return {.kind = static_cast<ControlKind>(header.phase),
          .key = key_of(header),
          .number = static_cast<ErrorNumber>(header.param),
          .culprit = static_cast<int>(header.count) - 1,
          .text = {reinterpret_cast<const char*>(payload), header.payload_bytes}};
}

} // namespace thinwire
