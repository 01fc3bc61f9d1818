#include "pool/first_touch.hpp"

#include "core/parallel.hpp"
#include "pool/memory_lock.hpp"
#include "pool/size_class.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <sys/mman.h>

namespace thinwire::pool {
namespace {

constexpr int kPopulateWrite = 23;       // MADV_POPULATE_WRITE, from Linux 5.14 on
constexpr std::size_t kPiece = 8 * kMiB; // what one thread does at a time
constexpr double kLeastHugeShare = 0.5;  // below it, the kernel has not given huge pages

using Clock = std::chrono::steady_clock;

// Adds nothing to a byte of every page: others may have begun to use them.
void touch_pages(Range memory) {
  for (std::size_t i = 0; i < memory.size(); i += kPage)
    __atomic_fetch_add(reinterpret_cast<unsigned char*>(&memory[i]), 0, __ATOMIC_RELAXED);
}

void populate_piece(Range piece) {
  int failed = 0;
  do
    failed = madvise(piece.data(), piece.size(), kPopulateWrite);
  while (failed && (errno == EINTR || errno == EAGAIN));
  if (failed && errno == EINVAL)
    touch_pages(piece);
}

} // namespace

void populate(Range memory, unsigned threads) {
  const std::size_t pieces = (memory.size() + kPiece - 1) / kPiece;
  parallel_for(pieces, threads, [&](std::size_t i) {
    const std::size_t from = i * kPiece;
    populate_piece(memory.subspan(from, std::min(kPiece, memory.size() - from)));
  });
}

void FirstTouch::touch(const Fresh& fresh) {
  const auto begun = Clock::now();
  for (std::size_t at = fresh.from; at < fresh.to;) {
    const std::size_t whole = at % kGranule == 0 ? (fresh.to - at) / kGranule : 0;
    if (whole > 0) {
      at += kGranule * touch_granules(fresh.extent, at / kGranule, whole);
    } else {
      const std::size_t end = std::min(fresh.to, (at / kGranule + 1) * kGranule);
      touch_part(fresh.extent, at, end);
      at = end;
    }
  }
  nanoseconds_ += static_cast<Nanoseconds>((Clock::now() - begun).count());
}

// Returns how many granules it has touched.
std::size_t FirstTouch::touch_granules(const Extent& extent, std::size_t first, std::size_t count) {
  const HugePageTrial::Step step = trial_.next();
  count = std::min(count, std::max<std::size_t>(1, step.most / kGranule));
  const Range memory(extent.begin() + first * kGranule, count * kGranule);
  const auto begun = Clock::now();
  const bool asked = step.huge && madvise(memory.data(), memory.size(), MADV_HUGEPAGE) == 0;
  populate(memory, threads_);
  const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  bool given = asked;
  if (step.read_back) {
    const std::array ranges = {memory};
    given = asked && count_pages(ranges).huge_share() >= kLeastHugeShare;
  }
  if (step.huge && !given) {
    refused_ = true;
    trial_.refuse();
  } else {
    trial_.record(step, memory.size(), seconds);
  }
  const bool locked = lock(memory);
  for (std::size_t i = first; i < first + count; ++i) {
    extent[i].locked = locked ? std::uint32_t{kGranule} : 0;
    extent[i].tier = locked ? Tier::mlocked : given ? Tier::huge : Tier::plain;
  }
  return count;
}

// Less than a granule: a granule is locked if every part of it is.
void FirstTouch::touch_part(const Extent& extent, std::size_t from, std::size_t to) {
  const Range memory(extent.begin() + from, to - from);
  populate(memory, 1);
  Granule& granule = extent[from / kGranule];
  if (lock(memory))
    granule.locked += static_cast<std::uint32_t>(memory.size());
  granule.tier = granule.locked == to - from / kGranule * kGranule ? Tier::mlocked : Tier::plain;
}

bool FirstTouch::lock(Range memory) {
  if (!wants_lock_)
    return false;
  const bool done = lock_memory(memory);
  if (!done)
    lock_refused_ = true;
  return done;
}

} // namespace thinwire::pool
