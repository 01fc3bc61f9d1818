// Profile "fastcdc2020" (docs/wire/chunking.md): FastCDC as Xia et al. describe it (IEEE TPDS
// 31(9), 2020), cut for cut what the package pyfastcdc makes of it.
#pragma once

#include "dedup/chunker.hpp"

namespace thinwire {

// One thread: the hash begins anew in every chunk, so where a chunk ends depends on where it began.
class FastCdcChunker final : public Chunker {
public:
  explicit FastCdcChunker(const Profile& profile);

  void update(std::span<const std::byte> piece, Ends& ends) override;

private:
  std::size_t advance(std::span<const std::byte> piece);
  std::size_t scan(std::span<const std::byte> bytes, std::uint64_t mask);
  void cut_match(Ends& ends);
  void cut_longest(Ends& ends);

  // Where a chunk's bytes are first looked at, where the loose mask begins, where the search ends:
  // all even, for the authors' loop takes two bytes at a time.
  const std::uint64_t first_, middle_, last_;
  const std::uint64_t max_, strict_, loose_;
  std::uint64_t hash_ = 0;
  std::uint64_t length_ = 0; // bytes of the chunk that have been seen
  bool matched_ = false;     // at the last byte seen
};

} // namespace thinwire
