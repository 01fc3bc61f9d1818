// Profile "native" (docs/wire/chunking.md). Whether a position can be a boundary is decided by the
// 64 bytes before it; so candidates are found by vectors and on all threads. One pass over them
// then keeps the sizes of chunks.
#pragma once

#include "dedup/candidate.hpp"
#include "dedup/chunker.hpp"
#include "dispatch/boundary.hpp"

#include <array>

namespace thinwire {

class NativeChunker final : public Chunker {
public:
  NativeChunker(const Profile& profile, unsigned threads);

  void update(std::span<const std::byte> piece, Ends& ends) override;

private:
  struct Candidate {
    std::uint32_t position;
    bool strict;
  };
  using Candidates = std::vector<Candidate>;

  void search_seam(std::span<const std::byte> head, Ends& ends);
  void search(std::span<const std::byte> data, Ends& ends);
  void remember(std::span<const std::byte> piece);
  Candidates candidates(const std::byte* data, std::size_t count) const;
  void confirm(const std::byte* position, std::uint32_t number, Candidates& found) const;
  void select(const Candidates& candidates, std::size_t count, Ends& ends);
  void cut_longest(std::uint64_t upto, Ends& ends);

  const Profile profile_;
  const unsigned threads_;
  const CandidateRule rule_;
  std::array<std::byte, kBoundaryLookback> tail_{}; // the last bytes of the stream
};

} // namespace thinwire
