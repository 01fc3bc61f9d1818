// Whole frames between device tensors and host memory.
#include "core/cuda_memory.hpp"
#include "dispatch/cuda_codec.hpp"
#include "dispatch/frame_steps.hpp"

#include <cstring>

namespace thinwire::cuda {
namespace {

// Throws InvalidArgument where `memory` is not on the device of the values.
void check_device(const void* memory, std::size_t alignment, const char* what, int device) {
  const int found = device_of(memory, alignment, what);
  if (found != device)
    throw InvalidArgument("the values are on CUDA device " + std::to_string(device) + ", " + what +
                          " on device " + std::to_string(found));
}

void check_residuals(const Layout& layout, std::span<void* const> residuals, DType dtype,
                     int device) {
  for (std::size_t i = 0; i < residuals.size(); ++i)
    if (residuals[i] && layout.segments()[i].count != 0)
      check_device(residuals[i], element_bytes(dtype), "the residual", device);
}

void check_bases(const Layout& layout, int device) {
  for (const Segment& segment : layout.segments())
    if (segment.basis.rank != 0)
      check_device(segment.basis.vectors, sizeof(float), "the shared basis", device);
}

} // namespace

std::size_t encode_frame(const Layout& layout, const FrameHeader& header, const FrameValues& values,
                         std::uint64_t key, std::span<std::byte> out, Stream stream) {
  if (layout.count() == 0)
    return thinwire::encode_frame(layout, header, values, key, out);
  check_values(layout, values);
  check_room(layout, out.size());
  const int device = device_of(values.x, element_bytes(values.dtype), "x");
  check_residuals(layout, values.residual_in, values.residual_dtype, device);
  check_residuals(layout, values.residual_out, values.residual_dtype, device);
  check_bases(layout, device);
  const DeviceGuard guard(device);
  const auto handle = static_cast<cudaStream_t>(stream);
  const StreamMemory memory(layout.frame_bytes() + work_bytes(layout), handle);
  const Encoding encoding{&layout, values, key, header.step, memory.get(), count_in(memory.get())};
  encode_payloads({&encoding, 1}, memory.get() + layout.frame_bytes(), stream);
  THINWIRE_CUDA(cudaMemcpyAsync(out.data(), memory.get(), layout.frame_bytes(),
                                cudaMemcpyDeviceToHost, handle));
  THINWIRE_CUDA(cudaStreamSynchronize(handle));
  std::uint64_t nonfinite;
  std::memcpy(&nonfinite, out.data(), sizeof nonfinite);
  finish_frame(layout, header, values.dtype, nonfinite, out.data());
  return nonfinite;
}

FrameHeader decode_frame(const Layout& layout, std::span<const std::byte> frame, void* out,
                         DType dtype, bool accumulate, Stream stream) {
  const FrameHeader header = check_frame(layout, frame);
  if ((header.flags & kFlagAborted) || layout.count() == 0)
    return header;
  const int device = device_of(out, element_bytes(dtype), "out");
  check_bases(layout, device);
  const DeviceGuard guard(device);
  const auto handle = static_cast<cudaStream_t>(stream);
  const StreamMemory memory(layout.frame_bytes() + work_bytes(layout), handle);
  THINWIRE_CUDA(cudaMemcpyAsync(memory.get(), frame.data(), layout.frame_bytes(),
                                cudaMemcpyHostToDevice, handle));
  const Decoding decoding{&layout, memory.get(), out, dtype, accumulate};
  decode_payloads({&decoding, 1}, memory.get() + layout.frame_bytes(), stream);
  THINWIRE_CUDA(cudaStreamSynchronize(handle)); // the caller may reuse the frame
  return header;
}

} // namespace thinwire::cuda
