// Takes the place of cuda_fingerprint.cu in a build without CUDA.
#include "core/cuda_absent.hpp"
#include "dedup/cuda_fingerprint.hpp"

namespace thinwire::cuda {

Fingerprint fingerprint(std::span<const std::byte>, const Profile&, const Blake3Key*, Stream) {
  absent();
}

std::vector<Blake3Digest> block_digests(std::span<const std::span<const std::byte>>, std::uint64_t,
                                        const Blake3Key*, Stream) {
  absent();
}

} // namespace thinwire::cuda
