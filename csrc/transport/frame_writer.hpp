// Frames into a byte stream: several small ones, or a large one, with each system call.
#pragma once

#include "transport/frame_queue.hpp"
#include "transport/frame_tag.hpp"
#include "transport/stream.hpp"

#include <array>
#include <optional>
#include <vector>

namespace thinwire {

class FrameWriter {
public:
  explicit FrameWriter(const std::optional<Blake3Key>& key) {
    if (key)
      tags_.emplace(*key);
  }

  bool is_idle() const { return next_part_ == parts_used_; }
  // Takes whole frames from the queue, in order, as many as should leave with one system call.
  // Only while idle.
  void load(FrameQueue& queue);
  // Writes on. A frame's memory is let go when its last byte was taken.
  Stream::Result write(Stream& stream);

  // Copies what is loaded, so that it refers to no memory of others.
  void detach();
  // Forgets what is loaded. The stream is of no more use.
  void drop();

  std::uint64_t frames() const { return frames_; } // written whole

private:
  static constexpr std::size_t kMostFrames = 16, kPartsEach = 3; // header, payload, tag

  struct Frame {
    Outgoing out;
    Tag tag;
    std::size_t last_part;
  };

  void add(Frame& frame);
  void add_part(const void* data, std::size_t bytes);
  void advance(std::size_t bytes);

  std::array<Frame, kMostFrames> batch_;
  std::array<iovec, kMostFrames * kPartsEach> parts_;
  std::size_t batch_used_ = 0, parts_used_ = 0;
  std::size_t next_frame_ = 0, next_part_ = 0; // the first that is not written whole
  std::optional<TagSequence> tags_;
  std::uint64_t frames_ = 0;
  std::vector<std::byte> copies_; // of payloads, after detach()
};

} // namespace thinwire
