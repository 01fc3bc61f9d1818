// The steps of encode_frame and decode_frame that do not depend on where the values lie: on the
// host (frame_codec.cpp) or on a CUDA device (cuda_codec.hpp).
#pragma once

#include "dispatch/frame_codec.hpp"
#include "dispatch/kernel_table.hpp"

namespace thinwire {

// Throws InvalidArgument where the values' lists do not fit the layout, or the frame not into
// `out_bytes`.
void check_values(const Layout& layout, const FrameValues& values);
void check_room(const Layout& layout, std::size_t out_bytes);

// The header of the frame at the start of `frame`, after every check: one that passes is safe to
// decode, unless it is aborted.
FrameHeader check_frame(const Layout& layout, std::span<const std::byte> frame);

// The header of a payload that is never looked at on the host.
void check_header(const Layout& layout, const FrameHeader& header);
// Whether such a payload is safe to decode, whatever it holds.
bool is_any_payload_valid(const Layout& layout);

// The same of a payload whose header was checked by a link, but not against the layout.
void check_payload(const Layout& layout, const FrameHeader& header, const std::byte* payload);

// What the kernels of one segment are told.
EncodeArgs encode_args(const Layout& layout, std::size_t segment, const FrameValues& values,
                       std::uint64_t key, std::uint64_t step, std::byte* payload);
DecodeArgs decode_args(const Layout& layout, std::size_t segment, const std::byte* payload,
                       void* out, DType dtype, bool accumulate);

// The header of a frame with a payload of this layout, not sealed.
FrameHeader complete_header(const Layout& layout, FrameHeader header, DType dtype, bool nonfinite);

// Writes the header of a frame whose payload stands there.
void finish_frame(const Layout& layout, FrameHeader header, DType dtype, std::size_t nonfinite,
                  std::byte* frame);

} // namespace thinwire
