// Memory of somebody else's, pinned where it lies.
#pragma once

#include "pool/tier.hpp"

#include <cstddef>
#include <string>

namespace thinwire {

// Registered with the CUDA driver where there is a GPU, else locked where RLIMIT_MEMLOCK allows,
// else left as it is. Undone by release() or at the end. Nothing is written to memory that is read
// only.
class PinnedRange {
public:
  PinnedRange(std::byte* memory, std::size_t bytes, bool is_read_only);
  ~PinnedRange() { release(); }
  PinnedRange(const PinnedRange&) = delete;
  PinnedRange& operator=(const PinnedRange&) = delete;

  Tier tier() const { return tier_; }
  const std::string& reason() const { return reason_; } // why it is no higher tier; or empty
  void release() noexcept;

private:
  std::byte* memory_;
  std::size_t bytes_;
  Tier tier_ = Tier::plain;
  std::string reason_;
};

} // namespace thinwire
