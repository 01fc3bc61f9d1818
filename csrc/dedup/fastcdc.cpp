#include "dedup/fastcdc.hpp"

#include "dedup/gear.hpp"

#include <algorithm>
#include <bit>

namespace thinwire {
namespace {

constexpr unsigned kNormalisationLevel = 1;

constexpr std::uint64_t even(std::uint64_t bytes) { return bytes / 2 * 2; }

// log2, rounded to the nearest integer.
constexpr unsigned rounded_log2(std::uint64_t size) {
  const unsigned below = static_cast<unsigned>(std::bit_width(size)) - 1;
  return below + (size * size >> (2 * below + 1) != 0 ? 1 : 0);
}

constexpr std::uint64_t mask(unsigned bits) { return kGearMasks[bits - kFirstGearMask]; }

} // namespace

FastCdcChunker::FastCdcChunker(const Profile& profile)
    : first_(even(profile.min)), middle_(even(profile.average)), last_(even(profile.max)),
      max_(profile.max), strict_(mask(rounded_log2(profile.average) + kNormalisationLevel)),
      loose_(mask(rounded_log2(profile.average) - kNormalisationLevel)) {}

void FastCdcChunker::update(std::span<const std::byte> piece, Ends& ends) {
  size_ += piece.size();
  while (!piece.empty()) {
    if (matched_) // on the first byte of a pair, and here is the second
      cut_match(ends);
    piece = piece.subspan(advance(piece));
    if (matched_ && length_ % 2 == 0)
      cut_match(ends);
    else if (length_ == max_)
      cut_longest(ends);
  }
}

// Goes on to the end of the piece, to a match, or to where another rule begins. Returns how many
// bytes that took.
std::size_t FastCdcChunker::advance(std::span<const std::byte> piece) {
  const auto upto = [&](std::uint64_t length) {
    return static_cast<std::size_t>(std::min<std::uint64_t>(length - length_, piece.size()));
  };
  std::size_t taken;
  if (length_ < first_)
    taken = upto(first_);
  else if (length_ < middle_)
    taken = scan(piece.first(upto(middle_)), strict_);
  else if (length_ < last_)
    taken = scan(piece.first(upto(last_)), loose_);
  else
    taken = upto(max_);
  length_ += taken;
  return taken;
}

// Up to and with the byte at which the hash matches.
std::size_t FastCdcChunker::scan(std::span<const std::byte> bytes, std::uint64_t mask) {
  std::uint64_t hash = hash_;
  std::size_t taken = 0;
  while (taken < bytes.size()) {
    hash = (hash << 1) + kGear[std::to_integer<std::size_t>(bytes[taken++])];
    if ((hash & mask) == 0) [[unlikely]] {
      matched_ = true;
      break;
    }
  }
  hash_ = hash;
  return taken;
}

// The byte that matched is the first of the next chunk.
void FastCdcChunker::cut_match(Ends& ends) {
  cut(start_ + length_ - 1, ends);
  length_ = 1;
  hash_ = 0;
  matched_ = false;
}

void FastCdcChunker::cut_longest(Ends& ends) {
  cut(start_ + max_, ends);
  length_ = 0;
  hash_ = 0;
}

} // namespace thinwire
