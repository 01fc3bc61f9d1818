// A byte stream into frames. Small frames are read many at a time into a staging buffer and handed
// over from there; a large payload is read straight to where it belongs.
#pragma once

#include "transport/frame_tag.hpp"
#include "transport/link.hpp"
#include "transport/stream.hpp"

#include <memory>
#include <optional>

namespace thinwire {

class FrameReader {
public:
  FrameReader(int peer, FrameSink& sink, BlockPool& pool, const std::optional<Blake3Key>& key);

  struct Turn {
    std::size_t bytes = 0;
    bool drained = false; // the stream had no more
    bool ended = false;
  };
  // Reads until the stream has no more, or about `most` bytes, and hands over the frames. Throws
  // CorruptFrame, InvalidArgument or TransportError: nothing can be read after that.
  Turn read(Stream& stream, std::size_t most);

  // Takes a payload under way to memory of the pool.
  void detach();
  // Forgets a payload under way. Nothing may be read any more.
  void drop() {
    large_ = nullptr;
    keep_ = {};
  }

  std::uint64_t frames() const { return frames_; } // handed over

private:
  std::size_t read_once(Stream& stream, Turn& turn);
  void hand_over();
  bool take_staged_frame();
  void begin_large(const FrameHeader& header);
  bool finish_large();
  void verify(const FrameHeader& header, const std::byte* payload, const std::byte* tag);
  std::size_t staged() const { return end_ - begin_; }
  bool in_large() const { return large_ != nullptr; }

  int peer_;
  FrameSink& sink_;
  BlockPool& pool_;
  std::optional<TagSequence> tags_;
  std::size_t tag_bytes_;
  std::uint64_t frames_ = 0;

  std::unique_ptr<std::byte[]> staging_;
  std::size_t begin_ = 0, end_ = 0; // what of it is not handed over yet

  // The large frame under way.
  FrameHeader header_;
  std::byte* large_ = nullptr; // its payload
  std::size_t arrived_ = 0;    // of its payload
  BlockRef keep_;
};

} // namespace thinwire
