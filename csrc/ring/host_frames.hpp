// Frames of values in the memory of the host.
#pragma once

#include "ring/tree_frames.hpp"

#include <vector>

namespace thinwire {

class HostFrames final : public TreeFrames, private BlockOwner {
public:
  HostFrames(SliceValues values, Outcome& outcome, FrameTaker& taker)
      : TreeFrames(std::move(values), outcome, taker), users_(*this), sums_(plan().slices.size()) {}

  void make_own(std::size_t i, FrameHeader head) override;
  void add(std::size_t i, Received frame) override;
  void make_partial(std::size_t i, FrameHeader head) override;
  void make_result(std::size_t i, FrameHeader head) override;
  void drop_sum(std::size_t i) override { sums_[i] = {}; }
  std::byte* place(std::size_t i, const FrameHeader& header) override;
  void store(std::size_t i, Received& frame) override;
  void forward(std::size_t i, Received frame) override;
  bool is_settled() const override { return !users_in_use_; }
  bool is_in_flight() const override { return users_in_use_; }
  void release() override { sums_.clear(); }

private:
  struct Sum {
    float* values = nullptr; // null: not begun
    BlockRef memory;         // empty: they lie in the output
  };

  void reclaim(Block& block) override;
  float* sum(std::size_t i);
  float* begin_sum(std::size_t i);
  void make_source(std::size_t i, FrameHeader head);
  void add_values(std::size_t i, const Layout& layout, const Received& frame);
  Outgoing result_frame(std::size_t i, FrameHeader head);
  void sample_error(std::size_t i);
  void store_exact(std::size_t i, FrameHeader head);
  void store_result(std::size_t i, const FrameHeader& header, const std::byte* payload);
  void settle_residuals(std::size_t i);
  Outgoing encoded(std::size_t i, FrameHeader head, const FrameValues& values);
  Outgoing exact(std::size_t i, FrameHeader head, const float* values, BlockRef memory);
  Outgoing from_user(FrameHeader head, const void* payload, std::size_t bytes);

  Block users_; // stands for the caller's memory in frames on their way
  bool users_in_use_ = false;
  std::vector<Sum> sums_;
};

} // namespace thinwire
