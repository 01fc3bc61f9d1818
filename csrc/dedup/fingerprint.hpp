// Where data is cut, and the digest of every chunk.
#pragma once

#include "dedup/chunker.hpp"
#include "hash/blake3.hpp"

namespace thinwire {

struct Fingerprint {
  Ends ends;
  std::vector<Blake3Digest> digests; // one a chunk; keyed where there is a key
};

// On up to `threads` threads, 0 stands for every core. The data is taken part by part: what has
// been cut is hashed before the next part is looked at, so a file comes from its disk once.
Fingerprint fingerprint(std::span<const std::byte> data, const Profile& profile,
                        const Blake3Key* key, unsigned threads);

} // namespace thinwire
