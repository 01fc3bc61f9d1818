// Every collective but recursive doubling: slices whose partial sums climb one tree and whose
// results descend another. docs/algorithms.md explains the schedules, ring/schedule.hpp makes the
// trees.
#pragma once

#include "ring/operation.hpp"
#include "ring/plan.hpp"
#include "ring/readiness.hpp"

#include <memory>

namespace thinwire {

// The values of one call.
struct TreeValues {
  const void* in;
  void* out; // may be the same
  double weight = 1;
  std::uint64_t step = 0; // chooses random numbers, and topk's sample
  // The residual of the whole input, where the plan's slices name none. May be null.
  void* residual = nullptr;
  int source = 0, target = 0;          // which of the plan's two residual arrays is read, written
  std::vector<std::uint8_t> held = {}; // by parameter: keeps its residual out of the sum
  std::uint32_t sample = ~0u;          // the slice whose error is measured, if this rank owns it
};

class TreeOperation final : public Operation, private BlockOwner {
public:
  // `id` is the hash of all that ranks must agree on; the plan's own is a part of it.
  TreeOperation(OperationKey key, std::uint32_t id, std::shared_ptr<const TreePlan> plan,
                std::string description, TreeValues values, std::uint64_t group,
                Clock::duration deadline);

  std::vector<int> peers() const override;
  void start(Wires& wires) override;
  void advance() override;
  std::byte* place(int peer, const FrameHeader& header) override;
  void receive(Received frame) override;
  bool is_finished() const override;
  void release() override { tasks_.clear(); }
  bool is_in_flight() const override { return users_in_use_; }
  std::vector<int> awaited() const override;

private:
  enum Phase : std::uint8_t { kUp = 1, kDown = 2, kReady = 5 }; // 3 and 4 are doubling's

  struct Task {
    std::size_t next_child = 0; // whose partial sum is added next
    bool summing = false, is_done = false;
    float* sum = nullptr;
    BlockRef sum_memory;
    double weight = 0;
    std::optional<std::uint32_t> culprit; // the rank that it waited for, if it waited at all
    std::vector<Received> early;          // children's frames that came before their turn
    std::optional<Failure> failure;       // instead of a sum
  };

  void reclaim(Block& block) override;

  // tree_operation.cpp: how slices travel
  void skip_done();
  bool is_released(const PlannedSlice& slice) const;
  bool has_room(const PlannedSlice& slice) const;
  void tell_ready(const std::vector<Readiness::Notice>& notices, std::uint32_t culprit);
  void start_task(std::size_t i);
  void take_child(std::size_t i, Received frame);
  void add_early(std::size_t i);
  void finish_sum(std::size_t i);
  void finish_at_root(std::size_t i);
  void send_up(std::size_t i, Outgoing frame);
  void distribute(std::size_t i, const Outgoing& frame);
  void take_result(std::size_t i, Received frame);
  void finish_task(std::size_t i);
  std::optional<std::size_t> find(std::uint32_t id) const;

  // tree_frames.cpp: what frames hold
  void send_leaf(std::size_t i);
  void send_source(std::size_t i);
  void begin_sum(std::size_t i);
  void add_child(std::size_t i, const Received& frame);
  void add_values(std::size_t i, const Layout& layout, const Received& frame);
  void send_partial(std::size_t i);
  Outgoing result_frame(std::size_t i);
  void sample_error(std::size_t i);
  void store_exact(std::size_t i, const float* values);
  void store_result(std::size_t i, const FrameHeader& header, const std::byte* payload);
  Outgoing forwarded(std::size_t i, Received frame);
  Outgoing abort_frame(std::size_t i, Phase phase);
  static Failure failure_in(const Received& frame);
  Outgoing encoded(std::size_t i, Phase phase, const void* x, DType dtype, double weight,
                   bool is_sum);
  Outgoing exact(std::size_t i, Phase phase, const float* values, double weight, BlockRef memory);
  Outgoing from_user(FrameHeader header, const void* payload, std::size_t bytes);
  FrameHeader header(std::size_t i, Phase phase) const;
  FrameHeader as_planned(FrameHeader header) const;
  Layout exact_layout(std::size_t i) const;
  std::size_t value_bytes() const;
  const void* input(std::size_t i) const;
  std::byte* output(std::size_t i) const;
  std::uint64_t rounding_key(std::size_t i) const;

  struct Residuals;
  Residuals residuals(std::size_t i) const;
  bool has_residual(std::size_t i) const;
  bool travels_raw(std::size_t i) const;
  bool sums_in_output(std::size_t i) const;
  void deliver_everything(std::size_t i);

  const std::shared_ptr<const TreePlan> plan_;
  const TreeValues values_;
  const std::uint64_t group_;
  Wires* wires_ = nullptr;
  Block users_; // stands for the caller's memory in frames on their way
  bool users_in_use_ = false;
  std::vector<Task> tasks_;
  std::size_t to_start_ = 0; // tasks before this one were started
  std::size_t oldest_ = 0;   // tasks before this one are done
  std::size_t done_ = 0;
  bool is_held_up_ = false;            // the next task may not start before others' frames come
  std::uint32_t last_culprit_ = 0;     // whom the last frame that came had waited for
  std::uint32_t window_ = 0;           // rounds that may be under way
  std::optional<Readiness> readiness_; // where values only travel down
};

} // namespace thinwire
