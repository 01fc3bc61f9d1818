// The only definition of what crosses a socket or lies in a file. docs/wire/frame.md explains the
// fields.
#pragma once

#include "core/types.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace thinwire {

inline constexpr std::uint32_t kFrameMagic = 0x52495754; // "TWIR"
inline constexpr std::uint16_t kFrameVersion = 1;
inline constexpr std::uint8_t kPlanCodecId = 255;
inline constexpr std::uint8_t kControlCodecId = 254; // a message between engines, not values

enum FrameFlags : std::uint32_t { kFlagAborted = 1u << 0, kFlagNonfinite = 1u << 1 };
inline constexpr std::uint32_t kKnownFlags = kFlagAborted | kFlagNonfinite;

struct FrameHeader {
  std::uint32_t magic = kFrameMagic;
  std::uint16_t version = kFrameVersion;
  std::uint16_t header_bytes = 96;
  std::uint64_t group = 0;
  std::uint64_t step = 0;
  std::uint32_t bucket = 0;
  std::uint32_t slice = 0;
  std::uint32_t sender = 0;
  std::uint32_t param = 0;
  std::uint8_t codec = 0;
  std::uint8_t dtype = 0;
  std::uint8_t phase = 0;
  std::uint8_t reserved0 = 0;
  std::uint32_t flags = 0;
  double weight = 1.0;
  std::uint64_t control = 0;
  std::uint64_t count = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t reserved1 = 0;
  std::uint64_t checksum = 0;
};

static_assert(sizeof(FrameHeader) == 96 && std::is_trivially_copyable_v<FrameHeader>);
static_assert(offsetof(FrameHeader, group) == 8 && offsetof(FrameHeader, bucket) == 24 &&
              offsetof(FrameHeader, param) == 36 && offsetof(FrameHeader, codec) == 40 &&
              offsetof(FrameHeader, flags) == 44 && offsetof(FrameHeader, weight) == 48 &&
              offsetof(FrameHeader, count) == 64 && offsetof(FrameHeader, payload_bytes) == 72 &&
              offsetof(FrameHeader, checksum) == 88);

inline constexpr std::size_t kHeaderBytes = sizeof(FrameHeader);

inline std::size_t frame_bytes(const FrameHeader& header) {
  return kHeaderBytes + header.payload_bytes;
}

// Throws the CorruptFrame that says what is wrong with a frame.
[[noreturn]] void corrupt_frame(const std::string& what);

// Writes the header, checksum included, in front of a payload of header.payload_bytes that already
// stands in the frame.
void seal_frame(FrameHeader header, std::byte* frame);

// The header of the frame at the start of `buffer` (which may go on behind it), after every check
// that needs no codec. Throws CorruptFrame, or InvalidArgument for another version.
FrameHeader open_frame(std::span<const std::byte> buffer);

// The same in steps, for a header and a payload that do not lie together, or not yet.
void seal_header(FrameHeader& header, const std::byte* payload);
// The header at the start of `buffer`, after every check but those of the payload.
FrameHeader read_header(std::span<const std::byte> buffer);
// Throws CorruptFrame unless the checksum matches.
void check_payload(const FrameHeader& header, const std::byte* payload);

// A frame that says why its sender could not make the real one. The message is cut to what `buffer`
// holds. Returns the frame's bytes. Throws InvalidArgument where not even the header fits.
std::size_t write_abort(FrameHeader header, std::uint32_t error_number, std::string_view message,
                        std::span<std::byte> buffer);

} // namespace thinwire
