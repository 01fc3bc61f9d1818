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

} // namespace thinwire::cuda
