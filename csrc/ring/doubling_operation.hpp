// All-reduce by recursive doubling: few values, exact, in as few exchanges as possible.
#pragma once

#include "ring/operation.hpp"
#include "ring/plan.hpp"

#include <map>

namespace thinwire {

struct DoublingPlan {
  Combine combine;
  DType dtype, residual_dtype;
  bool check_weights;
  std::uint32_t plan_id;
  std::string description;
  std::size_t count; // values, at most kMaxPayload bytes of fp32
  std::vector<DoublingStep> steps;
};

class DoublingOperation final : public Operation {
public:
  DoublingOperation(OperationKey key, DoublingPlan plan, const void* in, void* out, void* residual,
                    double weight, std::uint64_t group, Clock::duration deadline);

  std::vector<int> peers() const override;
  void start(Wires& wires) override;
  void advance() override;
  std::byte* place(int, const FrameHeader&) override { return nullptr; }
  void receive(Received frame) override;
  bool is_finished() const override { return at_ == plan_.steps.size(); }
  std::vector<int> awaited() const override;
  void release() override;

private:
  static bool sends(const DoublingStep& step);
  static bool receives(const DoublingStep& step);
  static std::uint8_t phase_of(const DoublingStep& step);
  void send(const DoublingStep& step);
  void take(const DoublingStep& step, const Received& frame);
  void finish();
  float* sum() const { return reinterpret_cast<float*>(sum_->data); }

  const DoublingPlan plan_;
  const Layout layout_;
  const void* const in_;
  void* const out_;
  void* const residual_;
  const std::uint64_t group_;
  double weight_;
  Wires* wires_ = nullptr;
  std::uint32_t culprit_ = 0; // the rank that the sum waited for last, or this one
  BlockRef sum_;
  std::size_t at_ = 0;                                       // the step under way
  bool sent_ = false;                                        // this step's frame
  std::map<std::pair<int, std::uint8_t>, Received> arrived_; // by peer and phase
};

} // namespace thinwire
