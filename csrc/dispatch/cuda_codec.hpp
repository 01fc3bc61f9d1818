// Encoding and decoding of tensors in the memory of a CUDA device, with the bytes of the CPU
// kernels. All functions throw NotBuilt in a build without CUDA, and CudaError where a CUDA call
// fails.
#pragma once

#include "core/cuda_stream.hpp"
#include "dispatch/frame_work.hpp"

namespace thinwire::cuda {

// Encodes the payloads of frames whose memory lies on the device too. Only launches: nothing is
// allocated, copied to the host or waited for, so that a CUDA graph can capture it. The current
// device must be that of the stream and of all memory, shared bases included. Headers are made on
// the host, by finish_frame() of frame_steps.hpp. `work` has work_bytes(all), aligned to 16 bytes.
void encode_payloads(std::span<const Encoding> all, std::byte* work, Stream stream);

// The reverse, likewise only launched. No two may go to the same place. The frames must have passed
// check_frame() of frame_steps.hpp on the host.
void decode_payloads(std::span<const Decoding> all, std::byte* work, Stream stream);

// Decodes frames one after another to one place, the first as `accumulate` says, the others added
// to it, in one pass over `out` for every 32 of them (every 4 where the layout has a shared basis;
// rotated blocks take one a frame): the bits of as many calls of the above. `work` has
// work_bytes(layout, frames.size()). The span is not read after the call.
void decode_payloads(const Layout& layout, std::span<const std::byte* const> frames, void* out,
                     DType dtype, bool accumulate, std::byte* work, Stream stream);

// Of working memory; of a layout's, to encode or to decode so many frames together.
std::size_t work_bytes(std::span<const Encoding> all);
std::size_t work_bytes(std::span<const Decoding> all);
std::size_t work_bytes(const Layout& layout, std::size_t frames = 1);

// Like thinwire::encode_frame, with x, residuals and shared bases in device memory and the frame in
// host memory: only the compressed bytes cross the bus. Works in the order of the stream and waits
// for it. Throws InvalidArgument for memory that is not a device's, or of different devices.
std::size_t encode_frame(const Layout& layout, const FrameHeader& header, const FrameValues& values,
                         std::uint64_t key, std::span<std::byte> out, Stream stream);

// Like thinwire::decode_frame, with `out` and shared bases in device memory.
FrameHeader decode_frame(const Layout& layout, std::span<const std::byte> frame, void* out,
                         DType dtype, bool accumulate, Stream stream);

} // namespace thinwire::cuda
