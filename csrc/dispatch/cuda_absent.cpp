// Takes the place of cuda_basis.cu, cuda_frame.cpp, cuda_kernels.cu, cuda_low_rank.cu and
// cuda_sums.cu in a build without CUDA.
#include "core/cuda_absent.hpp"
#include "dispatch/cuda_basis.hpp"
#include "dispatch/cuda_codec.hpp"
#include "dispatch/cuda_low_rank.hpp"
#include "dispatch/cuda_sums.hpp"

namespace thinwire::cuda {

void encode_payloads(std::span<const Encoding>, std::byte*, Stream) { absent(); }

void decode_payloads(std::span<const Decoding>, std::byte*, Stream) { absent(); }

void decode_payloads(const Layout&, std::span<const std::byte* const>, void*, DType, bool,
                     std::byte*, Stream) {
  absent();
}

std::size_t work_bytes(std::span<const Encoding>) { absent(); }
std::size_t work_bytes(std::span<const Decoding>) { absent(); }
std::size_t work_bytes(const Layout&, std::size_t) { absent(); }

std::size_t encode_frame(const Layout&, const FrameHeader&, const FrameValues&, std::uint64_t,
                         std::span<std::byte>, Stream) {
  absent();
}

FrameHeader decode_frame(const Layout&, std::span<const std::byte>, void*, DType, bool, Stream) {
  absent();
}

void fold(std::span<const Folding>, std::byte*, Stream) { absent(); }

void find_nonzero(std::span<const Stretch>, DType, std::uint32_t*, std::byte*, Stream) { absent(); }

std::size_t sum_work_bytes(std::span<const Folding>) { absent(); }
std::size_t sum_work_bytes(std::size_t) { absent(); }

void learn(std::span<const Lesson>, Stream) { absent(); }

void take_factors(const FactoredBucket&, Stream) { absent(); }

void give_factors(const FactoredBucket&, std::uint32_t*, Stream) { absent(); }

void learn_factors(std::span<const FactorLesson>, Factor, DType, Stream) { absent(); }

} // namespace thinwire::cuda
