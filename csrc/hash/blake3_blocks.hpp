// BLAKE3 of many blocks at once. The SIMD lanes work on chunks of different blocks, so that short
// blocks fill them as well as one long message does.
#pragma once

#include "hash/blake3.hpp"
#include "hash/blocks.hpp"

namespace thinwire {

// One digest a block; keyed where there is a key. On up to `threads` threads (0: every core).
void blake3_blocks(const Blocks& blocks, const Blake3Key* key, unsigned threads,
                   Blake3Digest* digests);

} // namespace thinwire
