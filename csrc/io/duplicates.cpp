#include "io/duplicates.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

namespace thinwire {
namespace {

constexpr std::size_t kFirstSlots = 1024, kMostDigests = std::size_t{1} << 32;
constexpr std::size_t kAhead = 16; // records that are hashed before the first is looked for

static_assert(std::endian::native == std::endian::little);

} // namespace

DistinctSample::DistinctSample(std::size_t limit) : limit_(limit), slots_(kFirstSlots) {
  if (limit == 0 || limit > kMostDigests)
    throw InvalidArgument("duplicates keeps 1 to " + std::to_string(kMostDigests) +
                          " digests, not " + std::to_string(limit));
}

void DistinctSample::add_rows(const std::byte* first, std::size_t rows, std::size_t stride,
                              std::size_t bytes) {
  Xxh3Digest digests[kAhead];
  for (std::size_t begin = 0; begin < rows; begin += kAhead) {
    const std::size_t count = std::min(kAhead, rows - begin);
    for (std::size_t i = 0; i < count; ++i) {
      digests[i] = xxh3_128({first + (begin + i) * stride, bytes});
      prefetch(digests[i]);
    }
    for (std::size_t i = 0; i < count; ++i)
      add(digests[i]);
  }
}

// The first bytes of a digest, which are the most significant ones, decide whether it is kept; the
// last ones decide where.
DistinctSample::Slot DistinctSample::slot_of(const Xxh3Digest& digest) {
  Slot made{.times = 1};
  std::memcpy(&made.high, digest.data(), sizeof made.high);
  std::memcpy(&made.low, digest.data() + sizeof made.high, sizeof made.low);
  made.high = __builtin_bswap64(made.high);
  made.low = __builtin_bswap64(made.low);
  return made;
}

bool DistinctSample::is_kept(const Slot& slot) const {
  return static_cast<unsigned>(std::countl_zero(slot.high)) >= level_;
}

void DistinctSample::prefetch(const Xxh3Digest& digest) const {
  __builtin_prefetch(&slots_[slot_of(digest).low & (slots_.size() - 1)]);
}

// Where it is, or the free slot where it belongs.
DistinctSample::Slot& DistinctSample::place_of(const Slot& wanted) {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = wanted.low & mask;
  while (slots_[at].times != 0 && (slots_[at].low != wanted.low || slots_[at].high != wanted.high))
    at = (at + 1) & mask;
  return slots_[at];
}

void DistinctSample::add(const Xxh3Digest& digest) {
  const Slot wanted = slot_of(digest);
  if (!is_kept(wanted))
    return;
  Slot& place = place_of(wanted);
  if (place.times++ != 0)
    return;
  place = wanted;
  if (++used_ > limit_)
    thin();
  else if (used_ > slots_.size() / 2)
    rebuild(2 * slots_.size());
}

// Raises the level until the digests fit.
void DistinctSample::thin() {
  while (used_ > limit_) {
    ++level_;
    used_ = static_cast<std::size_t>(std::count_if(
        slots_.begin(), slots_.end(), [&](const Slot& s) { return s.times != 0 && is_kept(s); }));
  }
  rebuild(slots_.size());
}

void DistinctSample::rebuild(std::size_t slots) {
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots));
  for (const Slot& slot : old)
    if (slot.times != 0 && is_kept(slot))
      place_of(slot) = slot;
}

std::vector<DistinctSample::Entry> DistinctSample::entries() const {
  std::vector<Entry> found;
  found.reserve(used_);
  for (const Slot& slot : slots_)
    if (slot.times != 0) {
      const std::uint64_t words[2] = {__builtin_bswap64(slot.high), __builtin_bswap64(slot.low)};
      found.push_back({std::bit_cast<Xxh3Digest>(words), slot.times});
    }
  return found;
}

} // namespace thinwire
