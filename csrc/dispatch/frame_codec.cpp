#include "dispatch/frame_codec.hpp"

#include "core/error.hpp"
#include "core/float_env.hpp"
#include "dispatch/basis_codec.hpp"
#include "dispatch/frame_steps.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace thinwire {
namespace {

const std::uint8_t* bytes_at(const void* base, std::size_t offset) {
  return static_cast<const std::uint8_t*>(base) + offset;
}

void* item(std::span<void* const> pointers, std::size_t i) {
  return pointers.empty() ? nullptr : pointers[i];
}

bool is_held(const FrameValues& values, std::size_t i) {
  return !values.held.empty() && values.held[i] != 0;
}

void check_items(const Layout& layout, std::size_t items, const char* what) {
  if (items != 0 && items != layout.segments().size())
    throw InvalidArgument(std::string(what) + " has " + std::to_string(items) +
                          " items; the layout has " + std::to_string(layout.segments().size()) +
                          " segments");
}

std::string mismatch(const char* field, std::uint64_t got, std::uint64_t expected) {
  return std::string(field) + " is " + std::to_string(got) + ", expected " +
         std::to_string(expected);
}

// The decoder trusts counts and offsets, so they are checked first.
void check_topk(const std::uint8_t* payload, std::size_t n, const CodecSpec& spec) {
  const TopKSections s = topk_sections(n, spec.density, spec.values);
  std::size_t entries = 0;
  for (std::size_t row = 0; row < s.rows; ++row)
    entries += payload[row];
  if (entries > s.capacity)
    corrupt_frame("topk counts " + std::to_string(entries) + " entries, " +
                  std::to_string(s.capacity) + " is the most");
  const std::uint8_t* offset = payload + s.offsets;
  for (std::size_t row = 0; row < s.rows; ++row) {
    const std::size_t row_end = std::min(TopK::kRow, n - row * TopK::kRow);
    int previous = -1;
    for (std::size_t left = payload[row]; left > 0; --left, ++offset) {
      if (*offset <= previous || *offset >= row_end)
        corrupt_frame("topk offset " + std::to_string(*offset) + " in row " + std::to_string(row) +
                      " is out of order or range");
      previous = *offset;
    }
  }
}

// Five ternary codes do not need all values of a byte; the others decode to codes that are none.
void check_codes(const std::uint8_t* payload, std::size_t n, const CodecSpec& spec) {
  const unsigned greatest = greatest_byte(spec.radix());
  if (greatest == 0xff)
    return;
  const BlockSections s = block_sections(n, spec.block, spec.radix());
  const std::size_t end = s.codes + s.blocks * code_bytes(spec.block, spec.radix());
  std::uint8_t most = 0;
  for (std::size_t i = s.codes; i < end; ++i)
    most = std::max(most, payload[i]);
  if (most > greatest)
    corrupt_frame(std::string(spec.name()) + " has a byte " + std::to_string(most) + ", " +
                  std::to_string(greatest) + " is the most");
}

} // namespace

Layout::Layout(std::size_t count, const CodecSpec& codec) {
  add({count, codec});
  codec_id_ = segments_[0].codec.wire_id;
  param_ = segments_[0].codec.param();
}

Layout::Layout(const std::vector<SegmentSpec>& segments, std::uint32_t plan_id)
    : codec_id_(kPlanCodecId), param_(plan_id) {
  for (const SegmentSpec& spec : segments)
    add(spec);
}

void Layout::add(const SegmentSpec& spec) {
  // Keeps every size that is computed from a count far from overflow.
  constexpr std::size_t kMost = std::size_t{1} << 40;
  if (spec.count > kMost || count_ + spec.count > kMost)
    throw InvalidArgument("a frame holds at most 2^40 values");
  const CodecSpec codec = spec.codec.resolve(spec.count);
  const Basis basis = codec.wire_id == Raw::kWireId ? Basis{} : spec.basis;
  const std::size_t coefficients = coefficient_bytes(basis, spec.count);
  const std::size_t bytes = coefficients + codec.payload_bytes(spec.count);
  segments_.push_back(
      {spec.count, codec, basis, count_, payload_bytes(), payload_bytes() + coefficients, bytes});
  count_ += spec.count;
  frame_bytes_ += bytes;
}

void check_values(const Layout& layout, const FrameValues& values) {
  check_items(layout, values.residual_in.size(), "residual_in");
  check_items(layout, values.residual_out.size(), "residual_out");
  check_items(layout, values.held.size(), "held");
  check_items(layout, values.used.size(), "used");
  if (values.residual_dtype == DType::fp16)
    throw InvalidArgument("a residual is fp32 or bf16; fp16 would lose small values");
}

void check_room(const Layout& layout, std::size_t out_bytes) {
  if (out_bytes < layout.frame_bytes())
    throw InvalidArgument("the frame takes " + std::to_string(layout.frame_bytes()) +
                          " bytes, out has " + std::to_string(out_bytes));
}

void check_header(const Layout& layout, const FrameHeader& header) {
  if (header.codec != layout.codec_id())
    corrupt_frame(mismatch("its codec", header.codec, layout.codec_id()));
  if (header.param != layout.param())
    corrupt_frame(mismatch("its param", header.param, layout.param()));
  if (header.dtype > static_cast<std::uint8_t>(DType::bf16))
    corrupt_frame("its dtype " + std::to_string(header.dtype) + " does not exist");
  if (header.count != layout.count())
    corrupt_frame(mismatch("its number of values", header.count, layout.count()));
  if (header.payload_bytes != layout.frame_bytes() - kHeaderBytes)
    corrupt_frame(
        mismatch("its payload_bytes", header.payload_bytes, layout.frame_bytes() - kHeaderBytes));
}

bool is_any_payload_valid(const Layout& layout) {
  return std::none_of(layout.segments().begin(), layout.segments().end(), [](const Segment& s) {
    return s.codec.has_density() || (s.codec.has_block() && greatest_byte(s.codec.radix()) != 0xff);
  });
}

void check_payload(const Layout& layout, const FrameHeader& header, const std::byte* payload) {
  check_header(layout, header);
  for (const Segment& segment : layout.segments()) {
    const std::uint8_t* start = bytes_at(payload, segment.codec_offset);
    if (segment.codec.has_density())
      check_topk(start, segment.count, segment.codec);
    else if (segment.codec.has_block())
      check_codes(start, segment.count, segment.codec);
  }
}

FrameHeader check_frame(const Layout& layout, std::span<const std::byte> frame) {
  const FrameHeader header = open_frame(frame);
  if ((header.flags & kFlagAborted) == 0)
    check_payload(layout, header, frame.data() + kHeaderBytes);
  return header;
}

EncodeArgs encode_args(const Layout& layout, std::size_t segment, const FrameValues& values,
                       std::uint64_t key, std::uint64_t step, std::byte* payload) {
  const Segment& s = layout.segments()[segment];
  return {
      .x = bytes_at(values.x, s.first * element_bytes(values.dtype)),
      .dtype = values.dtype,
      .n = s.count,
      .scale = values.scale,
      .residual_in = item(values.residual_in, segment),
      .residual_out = item(values.residual_out, segment),
      .residual_dtype = values.residual_dtype,
      .held = is_held(values, segment),
      .spec = s.codec,
      .key = key,
      .step = step,
      .payload = reinterpret_cast<std::uint8_t*>(payload) + s.offset,
      .on_device = {values.used.empty() ? nullptr : values.used[segment], values.residual_in_x},
  };
}

DecodeArgs decode_args(const Layout& layout, std::size_t segment, const std::byte* payload,
                       void* out, DType dtype, bool accumulate) {
  const Segment& s = layout.segments()[segment];
  return {
      .payload = bytes_at(payload, s.offset),
      .n = s.count,
      .spec = s.codec,
      .out = static_cast<std::uint8_t*>(out) + s.first * element_bytes(dtype),
      .dtype = dtype,
      .accumulate = accumulate,
  };
}

FrameHeader complete_header(const Layout& layout, FrameHeader header, DType dtype, bool nonfinite) {
  header.codec = layout.codec_id();
  header.param = layout.param();
  header.dtype = static_cast<std::uint8_t>(dtype);
  header.count = layout.count();
  header.payload_bytes = layout.payload_bytes();
  header.flags = nonfinite ? std::uint32_t{kFlagNonfinite} : 0;
  return header;
}

void finish_frame(const Layout& layout, FrameHeader header, DType dtype, std::size_t nonfinite,
                  std::byte* frame) {
  seal_frame(complete_header(layout, header, dtype, nonfinite != 0), frame);
}

namespace {

std::size_t encode_segments(const Layout& layout, const FrameValues& values, std::uint64_t key,
                            std::uint64_t step, std::byte* payload) {
  const FloatEnvironment environment;
  const KernelTable& kernels = active_kernels();
  std::size_t nonfinite = 0;
  for (std::size_t i = 0; i < layout.segments().size(); ++i) {
    const EncodeArgs args = encode_args(layout, i, values, key, step, payload);
    nonfinite += encode_values(kernels, layout.segments()[i].basis, args);
  }
  return nonfinite;
}

void decode_segments(const Layout& layout, const std::byte* payload, void* out, DType dtype,
                     bool accumulate) {
  const FloatEnvironment environment;
  const KernelTable& kernels = active_kernels();
  for (std::size_t i = 0; i < layout.segments().size(); ++i) {
    const DecodeArgs args = decode_args(layout, i, payload, out, dtype, accumulate);
    decode_values(kernels, layout.segments()[i].basis, args);
  }
}

} // namespace

void fold(const Layout& layout, const FrameValues& values, float* out) {
  check_values(layout, values);
  const FloatEnvironment environment;
  const KernelTable& kernels = active_kernels();
  for (std::size_t i = 0; i < layout.segments().size(); ++i) {
    const Segment& segment = layout.segments()[i];
    kernels.fold({.x = bytes_at(values.x, segment.first * element_bytes(values.dtype)),
                  .dtype = values.dtype,
                  .n = segment.count,
                  .scale = values.scale,
                  .residual = is_held(values, i) ? nullptr : item(values.residual_in, i),
                  .residual_dtype = values.residual_dtype,
                  .out = out + segment.first});
  }
}

FrameHeader encode_payload(const Layout& layout, FrameHeader header, const FrameValues& values,
                           std::uint64_t key, std::byte* payload) {
  check_values(layout, values);
  const std::size_t nonfinite = encode_segments(layout, values, key, header.step, payload);
  return complete_header(layout, header, values.dtype, nonfinite != 0);
}

std::size_t encode_frame(const Layout& layout, FrameHeader header, const FrameValues& values,
                         std::uint64_t key, std::span<std::byte> out) {
  check_values(layout, values);
  check_room(layout, out.size());
  const std::size_t nonfinite =
      encode_segments(layout, values, key, header.step, out.data() + kHeaderBytes);
  finish_frame(layout, header, values.dtype, nonfinite, out.data());
  return nonfinite;
}

void decode_payload(const Layout& layout, const FrameHeader& header, const std::byte* payload,
                    void* out, DType dtype, bool accumulate) {
  check_payload(layout, header, payload);
  decode_segments(layout, payload, out, dtype, accumulate);
}

FrameHeader decode_frame(const Layout& layout, std::span<const std::byte> frame, void* out,
                         DType dtype, bool accumulate) {
  const FrameHeader header = check_frame(layout, frame);
  if ((header.flags & kFlagAborted) == 0)
    decode_segments(layout, frame.data() + kHeaderBytes, out, dtype, accumulate);
  return header;
}

bool is_zero(const void* x, std::size_t n, DType dtype) {
  return active_kernels().is_zero(x, n, dtype);
}

std::size_t count_nonfinite(const void* x, std::size_t n, DType dtype) {
  return active_kernels().count_nonfinite(x, n, dtype);
}

} // namespace thinwire
