// Cutting a stream into chunks.
#pragma once

#include "dedup/profile.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace thinwire {

using Ends = std::vector<std::int64_t>; // each counted from the start of the stream

// Takes a stream piece by piece; where the pieces begin changes no cut.
class Chunker {
public:
  virtual ~Chunker() = default;

  // Appends the ends that are certain now.
  virtual void update(std::span<const std::byte> piece, Ends& ends) = 0;

  // Appends the end of the stream, unless the last chunk has ended there.
  void finish(Ends& ends) {
    if (start_ != size_)
      cut(size_, ends);
  }

protected:
  void cut(std::uint64_t end, Ends& ends) {
    ends.push_back(static_cast<std::int64_t>(end));
    start_ = end;
  }

  std::uint64_t start_ = 0; // of the current chunk
  std::uint64_t size_ = 0;  // bytes seen
};

// `threads` work on one piece, 0 stands for every core; they change no cut.
std::unique_ptr<Chunker> make_chunker(const Profile& profile, unsigned threads);

} // namespace thinwire
