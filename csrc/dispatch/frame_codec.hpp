// Whole frames: a row of segments, each with its codec, encoded from and decoded into one
// contiguous range of values.
#pragma once

#include "codec/spec.hpp"
#include "dispatch/basis.hpp"
#include "wire/frame.hpp"

#include <optional>
#include <span>
#include <vector>

namespace thinwire {

// A stretch of values as it is asked for. With a basis it holds whole rows of a matrix.
struct SegmentSpec {
  std::size_t count;
  CodecSpec codec;
  Basis basis = {};
};

struct Segment {
  std::size_t count;
  CodecSpec codec;   // already resolved: raw where that is no larger
  Basis basis;       // of rank 0 where the values travel raw
  std::size_t first; // index of its first value in the range
  // Where its payload begins in the frame's, and where, behind the coefficients of a basis, the
  // codec's does.
  std::size_t offset, codec_offset;
  std::size_t bytes; // of its payload
};

// What a frame holds, known to both sides beforehand.
class Layout {
public:
  // One codec for all values, named in the frame.
  Layout(std::size_t count, const CodecSpec& codec);
  // Segments one after another; the frame carries `plan_id`, by which both sides know they mean the
  // same. The memory of a basis is read whenever the layout is used.
  Layout(const std::vector<SegmentSpec>& segments, std::uint32_t plan_id);

  std::size_t count() const { return count_; }
  std::size_t frame_bytes() const { return frame_bytes_; }
  std::size_t payload_bytes() const { return frame_bytes_ - kHeaderBytes; }
  const std::vector<Segment>& segments() const { return segments_; }
  std::uint8_t codec_id() const { return codec_id_; }
  std::uint32_t param() const { return param_; }

private:
  void add(const SegmentSpec& spec);

  std::vector<Segment> segments_;
  std::size_t count_ = 0, frame_bytes_ = kHeaderBytes;
  std::uint8_t codec_id_;
  std::uint32_t param_;
};

// The values of a frame in memory, and what goes with them. Spans are empty or have one item a
// segment.
struct FrameValues {
  const void* x;
  DType dtype;
  float scale = 1;
  std::span<void* const> residual_in = {}; // null: that segment has none
  std::span<void* const> residual_out = {};
  DType residual_dtype = DType::fp32; // fp32 or bf16
  std::span<const std::uint8_t> held = {};
  // On a CUDA device alone, in place of `held`: see HeldOnDevice.
  std::span<const std::uint32_t* const> used = {}; // null: that segment is not held
  bool residual_in_x = false;
};

// out = x * scale + residual_in (held segments: x * scale), layout.count() fp32 values.
void fold(const Layout& layout, const FrameValues& values, float* out);

// Encodes the payload alone, layout.payload_bytes() bytes, and returns the header with its codec,
// param, dtype, count, payload_bytes and flags completed, not sealed.
FrameHeader encode_payload(const Layout& layout, FrameHeader header, const FrameValues& values,
                           std::uint64_t key, std::byte* payload);

// Decodes a payload whose header was checked by open_frame or by a link. Throws CorruptFrame before
// `out` is touched where header or payload do not fit the layout.
void decode_payload(const Layout& layout, const FrameHeader& header, const std::byte* payload,
                    void* out, DType dtype, bool accumulate);

// Encodes a whole frame of layout.frame_bytes() into `out`. Returns how many blocks (values, for
// cast codecs) were not finite.
std::size_t encode_frame(const Layout& layout, FrameHeader header, const FrameValues& values,
                         std::uint64_t key, std::span<std::byte> out);

// Checks a frame against the layout and decodes it. The buffer may go on behind the frame. An
// aborted frame is not an error and leaves `out` as it is. Throws CorruptFrame or InvalidArgument
// before `out` is touched.
FrameHeader decode_frame(const Layout& layout, std::span<const std::byte> frame, void* out,
                         DType dtype, bool accumulate);

bool is_zero(const void* x, std::size_t n, DType dtype);
std::size_t count_nonfinite(const void* x, std::size_t n, DType dtype);

} // namespace thinwire
