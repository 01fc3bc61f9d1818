// Work on frames that launches on a CUDA device do together: a list of it takes no more launches
// than one item. Layouts, and the lists that values refer to, are read until the call returns.
#pragma once

#include "dispatch/frame_codec.hpp"

namespace thinwire {

// As encode_payload(). `frame` has layout->frame_bytes(), aligned to 16 bytes. The number of blocks
// (values, for cast codecs) that were not finite goes to `nonfinite`, which may be the first word
// of the frame: of its header nothing is written.
struct Encoding {
  const Layout* layout;
  FrameValues values;
  std::uint64_t key, step;
  std::byte* frame;
  std::uint64_t* nonfinite;
};

// Into the first word of a frame.
inline std::uint64_t* count_in(std::byte* frame) { return reinterpret_cast<std::uint64_t*>(frame); }

// As decode_payload() of what stands behind the header of `frame`.
struct Decoding {
  const Layout* layout;
  const std::byte* frame;
  void* out;
  DType dtype;
  bool accumulate;
};

// As fold().
struct Folding {
  const Layout* layout;
  FrameValues values;
  float* out;
};

template <class Work> std::size_t segments_in(std::span<const Work> all) {
  std::size_t segments = 0;
  for (const Work& one : all)
    segments += one.layout->segments().size();
  return segments;
}

} // namespace thinwire
