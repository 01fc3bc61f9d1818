// Proof that a frame comes from the peer and in its place: a keyed BLAKE3 of it and of its number.
#pragma once

#include "hash/blake3.hpp"
#include "wire/frame.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace thinwire {

inline constexpr std::size_t kTagBytes = 16;
using Tag = std::array<std::byte, kTagBytes>;

// The keys of one socket, one a direction.
struct SessionKeys {
  Blake3Key send, receive;
};

// Compares without telling by the time it takes where the first difference lies.
inline bool equal_in_constant_time(const std::byte* a, const std::byte* b, std::size_t bytes) {
  std::byte difference{0};
  for (std::size_t i = 0; i < bytes; ++i)
    difference |= a[i] ^ b[i];
  return difference == std::byte{0};
}

// The tags of one direction of one socket, in order. Their number is hashed too: a frame that is
// repeated, left out or moved has the wrong one.
class TagSequence {
public:
  explicit TagSequence(const Blake3Key& key) : key_(key) {}

  Tag next(const FrameHeader& header, const std::byte* payload) {
    Tag tag;
    Blake3(key_)
        .update(std::as_bytes(std::span(&number_, 1)))
        .update(std::as_bytes(std::span(&header, 1)))
        .update({payload, header.payload_bytes})
        .finish(tag);
    ++number_;
    return tag;
  }

private:
  Blake3Key key_;
  std::uint64_t number_ = 0;
};

} // namespace thinwire
