// Frames that wait: a ring that grows to the most that ever waited and allocates nothing after.
#pragma once

#include "transport/link.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace thinwire {

class FrameQueue {
public:
  bool empty() const { return size_ == 0; }
  const Outgoing& front() const { return ring_[first_]; }

  void push(Outgoing frame) {
    if (size_ == ring_.size())
      grow();
    ring_[(first_ + size_++) % ring_.size()] = std::move(frame);
  }

  Outgoing pop() {
    Outgoing frame = std::exchange(ring_[first_], Outgoing{});
    first_ = (first_ + 1) % ring_.size();
    --size_;
    return frame;
  }

private:
  void grow() {
    std::rotate(ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(first_), ring_.end());
    first_ = 0;
    ring_.resize(std::max<std::size_t>(16, 2 * ring_.size()));
  }

  std::vector<Outgoing> ring_;
  std::size_t first_ = 0, size_ = 0;
};

} // namespace thinwire
