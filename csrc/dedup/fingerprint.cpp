#include "dedup/fingerprint.hpp"

#include "core/parallel.hpp"
#include "hash/blake3_blocks.hpp"

#include <algorithm>

namespace thinwire {
namespace {

// What a thread cuts and then hashes. Less would show the time that starting a thread takes, and
// that one thread waits for the other.
constexpr std::size_t kPartOfThread = 16 << 20;

} // namespace

Fingerprint fingerprint(std::span<const std::byte> data, const Profile& profile,
                        const Blake3Key* key, unsigned threads) {
  const std::size_t part = kPartOfThread * thread_count(threads);
  const auto chunker = make_chunker(profile, threads);
  Fingerprint found;
  for (std::size_t at = 0; at < data.size(); at += part) {
    const auto piece = data.subspan(at, std::min(part, data.size() - at));
    const std::size_t hashed = found.ends.size();
    chunker->update(piece, found.ends);
    if (at + piece.size() == data.size())
      chunker->finish(found.ends);
    if (found.ends.size() == hashed)
      continue;
    const std::int64_t begin = hashed == 0 ? 0 : found.ends[hashed - 1];
    Ends ends(found.ends.begin() + static_cast<std::ptrdiff_t>(hashed), found.ends.end());
    for (std::int64_t& end : ends)
      end -= begin;
    const auto chunks =
        data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(ends.back()));
    found.digests.resize(found.ends.size());
    blake3_blocks(Blocks(chunks, ends), key, threads, found.digests.data() + hashed);
  }
  return found;
}

} // namespace thinwire
