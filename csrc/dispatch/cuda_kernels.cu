// The kernels of warp_*.hpp on a CUDA device.
#include "dispatch/cuda_codec.hpp"
#include "dispatch/cuda_launch.cuh"

namespace thinwire::cuda {

void encode_payload(const Layout& layout, const FrameValues& values, std::uint64_t key,
                    std::uint64_t step, std::byte* frame, std::byte* work, Stream stream) {
  Launcher launcher(stream);
  lane::encode_payload(launcher, layout, values, key, step, frame, work);
}

void decode_payload(const Layout& layout, const std::byte* frame, void* out, DType dtype,
                    bool accumulate, std::byte* work, Stream stream) {
  decode_payloads(layout, std::span(&frame, 1), out, dtype, accumulate, work, stream);
}

void decode_payloads(const Layout& layout, std::span<const std::byte* const> frames, void* out,
                     DType dtype, bool accumulate, std::byte* work, Stream stream) {
  Launcher launcher(stream);
  lane::decode_payloads(launcher, layout, frames, out, dtype, accumulate, work);
}

std::size_t work_bytes(const Layout& layout, std::size_t frames) {
  return lane::work_bytes(layout, frames);
}

} // namespace thinwire::cuda
