// Every collective but recursive doubling: slices whose partial sums climb one tree and whose
// results descend another. docs/algorithms.md explains the schedules, ring/schedule.hpp makes the
// trees.
#pragma once

#include "ring/readiness.hpp"
#include "ring/tree_frames.hpp"

#include <memory>

namespace thinwire {

class TreeOperation final : public Operation, private FrameTaker {
public:
  // `id` is the hash of all that ranks must agree on; the plan's own is a part of it.
  TreeOperation(OperationKey key, std::uint32_t id, std::shared_ptr<const TreePlan> plan,
                std::string description, TreeValues values, std::uint64_t group,
                Clock::duration deadline);

  std::vector<int> peers() const override;
  bool is_ready(Wires& wires) override;
  void start(Wires& wires) override;
  void advance() override;
  std::byte* place(int peer, const FrameHeader& header) override;
  void receive(Received frame) override;
  bool is_finished() const override;
  void release() override;
  bool is_in_flight() const override { return frames_->is_in_flight(); }
  bool awaits_device() const override { return frames_->awaits_device(); }
  bool reads_windows() const override { return is_on_device_; }
  std::vector<int> awaited() const override;

private:
  struct Task {
    std::size_t next_child = 0; // whose partial sum is added next
    bool is_done = false;
    double weight = 0;                    // of the sum
    std::optional<std::uint32_t> culprit; // the rank that it waited for, if it waited at all
    std::vector<Received> early;          // children's frames that came before their turn
    std::optional<Failure> failure;       // instead of a sum
  };

  void take_made(std::size_t i, Outgoing frame) override;
  void take_forwarded(std::size_t i, Outgoing frame) override { distribute(i, frame); }
  void start_tasks();
  void skip_done();
  bool is_released(std::size_t i) const;
  bool has_room(const PlannedSlice& slice) const;
  void tell_ready(const std::vector<Readiness::Notice>& notices, std::uint32_t culprit);
  void start_task(std::size_t i);
  void take_child(std::size_t i, Received frame);
  void add_child(std::size_t i, Received frame);
  void add_early(std::size_t i);
  void finish_sum(std::size_t i);
  void distribute(std::size_t i, const Outgoing& frame);
  void take_result(std::size_t i, Received frame);
  void finish_task(std::size_t i);
  std::optional<std::size_t> find(std::uint32_t id) const;

  FrameHeader header(std::size_t i, TreePhase phase) const;
  FrameHeader summed_header(std::size_t i, TreePhase phase) const;
  Outgoing abort_frame(std::size_t i, TreePhase phase);

  const std::shared_ptr<const TreePlan> plan_;
  const double weight_;
  const std::uint64_t group_;
  const bool is_on_device_;
  Wires* wires_ = nullptr;
  std::unique_ptr<TreeFrames> frames_;
  std::vector<Task> tasks_;
  std::size_t to_start_ = 0; // tasks before this one were started
  std::size_t oldest_ = 0;   // tasks before this one are done
  std::size_t done_ = 0;
  bool is_held_up_ = false;            // the next task may not start before others' frames come
  std::uint32_t last_culprit_ = 0;     // whom the last frame that came had waited for
  std::size_t payload_bytes_ = 1;      // of the greatest frame
  std::optional<Readiness> readiness_; // where values only travel down
};

} // namespace thinwire
