// The kernels of warp_*.hpp on a CUDA device.
#include "dispatch/cuda_codec.hpp"
#include "dispatch/cuda_launch.cuh"

namespace thinwire::cuda {

void encode_payloads(std::span<const Encoding> all, std::byte* work, Stream stream) {
  Launcher launcher(stream);
  lane::encode_payloads(launcher, all, work);
}

void decode_payloads(std::span<const Decoding> all, std::byte* work, Stream stream) {
  Launcher launcher(stream);
  lane::decode_payloads(launcher, all, work);
}

void decode_payloads(const Layout& layout, std::span<const std::byte* const> frames, void* out,
                     DType dtype, bool accumulate, std::byte* work, Stream stream) {
  Launcher launcher(stream);
  lane::decode_payloads(launcher, layout, frames, out, dtype, accumulate, work);
}

std::size_t work_bytes(std::span<const Encoding> all) { return lane::work_bytes(all); }
std::size_t work_bytes(std::span<const Decoding> all) { return lane::work_bytes(all); }
std::size_t work_bytes(const Layout& layout, std::size_t frames) {
  return lane::work_bytes(layout, frames);
}

} // namespace thinwire::cuda
