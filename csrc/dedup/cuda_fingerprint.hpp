// Fingerprints of data in the memory of a CUDA device.
#pragma once

#include "core/cuda_stream.hpp"
#include "dedup/fingerprint.hpp"

namespace thinwire::cuda {

// What thinwire::fingerprint gives for the same bytes; only ends and digests cross the bus. Works
// in the order of the stream and waits for it. Throws NotBuilt for profile fastcdc2020, and in a
// build without CUDA; InvalidArgument for memory that is not a device's; CudaError where a CUDA
// call fails.
Fingerprint fingerprint(std::span<const std::byte> data, const Profile& profile,
                        const Blake3Key* key, Stream stream);

// The BLAKE3 digests of the blocks of `block_bytes` that each piece of device memory is cut into
// from its start; those of all pieces, one after the other. All must lie on one device. Throws as
// fingerprint() does.
std::vector<Blake3Digest> block_digests(std::span<const std::span<const std::byte>> pieces,
                                        std::uint64_t block_bytes, const Blake3Key* key,
                                        Stream stream);

} // namespace thinwire::cuda
