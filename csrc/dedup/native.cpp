#include "dedup/native.hpp"

#include "core/parallel.hpp"
#include "dispatch/kernel_table.hpp"
#include "hash/xxh3.hpp"

#include <algorithm>

namespace thinwire {
namespace {

constexpr std::size_t kTile = 16 << 10; // positions that a kernel looks at in one call
constexpr std::size_t kBlock = 1 << 20; // of one task
// Positions between two selections, which bounds how many candidates are kept.
constexpr std::size_t kRound = 128 << 20;

} // namespace

NativeChunker::NativeChunker(const Profile& profile, unsigned threads)
    : profile_(profile), threads_(threads), rule_(profile.average) {}

void NativeChunker::update(std::span<const std::byte> piece, Ends& ends) {
  const std::size_t seam = std::min(piece.size(), kBoundaryLookback);
  search_seam(piece.first(seam), ends);
  for (auto rest = piece.subspan(seam); !rest.empty();) {
    const auto round = rest.first(std::min(rest.size(), kRound));
    search(round, ends);
    rest = rest.subspan(round.size());
  }
  remember(piece);
}

// Positions whose window begins in an earlier piece.
void NativeChunker::search_seam(std::span<const std::byte> head, Ends& ends) {
  std::array<std::byte, 2 * kBoundaryLookback> joined;
  std::ranges::copy(tail_, joined.begin());
  std::ranges::copy(head, joined.begin() + kBoundaryLookback);
  select(candidates(joined.data() + kBoundaryLookback, head.size()), head.size(), ends);
}

void NativeChunker::search(std::span<const std::byte> data, Ends& ends) {
  const std::size_t blocks = (data.size() + kBlock - 1) / kBlock;
  const auto block = [&](std::size_t number) {
    const auto from = data.subspan(number * kBlock);
    return from.first(std::min(from.size(), kBlock));
  };
  std::vector<Candidates> found(blocks);
  parallel_for(blocks, threads_, [&](std::size_t number) {
    found[number] = candidates(block(number).data(), block(number).size());
  });
  for (std::size_t number = 0; number < blocks; ++number)
    select(found[number], block(number).size(), ends);
}

void NativeChunker::remember(std::span<const std::byte> piece) {
  const auto kept = piece.last(std::min(piece.size(), tail_.size()));
  std::shift_left(tail_.begin(), tail_.end(), static_cast<std::ptrdiff_t>(kept.size()));
  std::ranges::copy(kept, tail_.end() - static_cast<std::ptrdiff_t>(kept.size()));
}

// Of positions 1 to `count`; kBoundaryLookback bytes before the data are read.
NativeChunker::Candidates NativeChunker::candidates(const std::byte* data,
                                                    std::size_t count) const {
  const std::int16_t bound = rule_.polynomial_bound();
  const FindBoundaries find = active_kernels().find_boundaries;
  std::array<std::uint32_t, kTile> positions;
  Candidates found;
  for (std::size_t at = 0; at < count; at += kTile) {
    const std::byte* tile = data + at;
    const std::size_t hits = find(reinterpret_cast<const std::uint8_t*>(tile),
                                  std::min(kTile, count - at), bound, positions.data());
    for (const std::uint32_t position : std::span(positions).first(hits))
      confirm(tile + position, static_cast<std::uint32_t>(at) + position, found);
  }
  return found;
}

void NativeChunker::confirm(const std::byte* position, std::uint32_t number,
                            Candidates& found) const {
  const std::uint64_t hash = xxh3_64(position - kBoundaryWindow, kBoundaryWindow);
  if (rule_.is_loose(hash))
    found.push_back({number, rule_.is_strict(hash)});
}

// Takes the next `count` bytes of the stream, with the candidates in them.
void NativeChunker::select(const Candidates& candidates, std::size_t count, Ends& ends) {
  for (const Candidate& candidate : candidates) {
    const std::uint64_t end = size_ + candidate.position;
    cut_longest(end, ends);
    const std::uint64_t length = end - start_;
    if (length >= profile_.min && (candidate.strict || length >= profile_.average))
      cut(end, ends);
  }
  size_ += count;
  cut_longest(size_, ends);
}

void NativeChunker::cut_longest(std::uint64_t upto, Ends& ends) {
  while (upto - start_ >= profile_.max)
    cut(start_ + profile_.max, ends);
}

} // namespace thinwire
