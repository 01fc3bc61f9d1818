// Windows: memory of a device that a rank shows to others of its host. What is said of them, and
// where in one the payload of a frame lies. docs/wire/windows.md explains it.
#pragma once

#include "wire/frame.hpp"

namespace thinwire {

inline constexpr std::uint8_t kWindowCodecId = 253;   // a message about a window
inline constexpr std::uint8_t kInWindowCodecId = 252; // a plan frame whose payload lies in one

// `phase` of a frame of codec kWindowCodecId. `slice` is the window's number with its owner.
enum class WindowMessage : std::uint8_t {
  offer = 0,    // a window of `count` bytes; the payload is its handle
  opened = 1,   // the sender can read it: payloads of frames to it may lie there
  refused = 2,  // the sender cannot; the payload says why
  released = 3, // the sender has read the frame at offset `count`
  closed = 4,   // the sender will read nothing more of it
};

// The payload of a frame of codec kInWindowCodecId, which is a plan frame in everything else.
struct WindowPlace {
  std::uint32_t window;
  std::uint32_t reserved = 0;
  std::uint64_t offset; // of the frame: its payload begins kHeaderBytes behind
  std::uint64_t payload_bytes;
};

static_assert(sizeof(WindowPlace) == 24 && std::is_trivially_copyable_v<WindowPlace>);

inline constexpr std::size_t kPlaceAlignment = 256; // of offsets in a window

inline bool is_in_window(const FrameHeader& header) { return header.codec == kInWindowCodecId; }

} // namespace thinwire
