#include "ring/doubling_operation.hpp"

#include "ring/combine.hpp"

#include <cstring>
#include <vector>

namespace thinwire {
namespace {

// The frames' phases.
constexpr std::uint8_t kSum = 3, kResult = 4;

} // namespace

DoublingOperation::DoublingOperation(OperationKey key, DoublingPlan plan, const void* in, void* out,
                                     void* residual, double weight, std::uint64_t group,
                                     Clock::duration deadline)
    : Operation(key, plan.plan_id, plan.description, deadline), plan_(std::move(plan)),
      layout_({{plan_.count, CodecSpec{}}}, plan_id), in_(in), out_(out), residual_(residual),
      group_(group), weight_(weight) {}

std::vector<int> DoublingOperation::peers() const {
  std::vector<int> found;
  for (const DoublingStep& step : plan_.steps)
    found.push_back(step.peer);
  return found;
}

void DoublingOperation::start(Wires& wires) {
  wires_ = &wires;
  culprit_ = static_cast<std::uint32_t>(wires.rank());
  sum_ = wires.pool().take(plan_.count * sizeof(float));
  void* const residuals[] = {residual_};
  fold(layout_,
       {.x = in_,
        .dtype = plan_.dtype,
        .scale = static_cast<float>(weight_),
        .residual_in = residual_ ? std::span<void* const>(residuals) : std::span<void* const>(),
        .residual_dtype = plan_.residual_dtype},
       sum());
  if (residual_) // everything is delivered
    std::memset(residual_, 0, plan_.count * element_bytes(plan_.residual_dtype));
  if (plan_.steps.empty())
    finish();
  advance();
}

bool DoublingOperation::sends(const DoublingStep& step) {
  using Kind = DoublingStep::Kind;
  return step.kind == Kind::give || step.kind == Kind::exchange || step.kind == Kind::give_result;
}

bool DoublingOperation::receives(const DoublingStep& step) {
  using Kind = DoublingStep::Kind;
  return step.kind == Kind::take || step.kind == Kind::exchange || step.kind == Kind::take_result;
}

std::uint8_t DoublingOperation::phase_of(const DoublingStep& step) {
  using Kind = DoublingStep::Kind;
  return step.kind == Kind::give_result || step.kind == Kind::take_result ? kResult : kSum;
}

void DoublingOperation::advance() {
  while (at_ < plan_.steps.size()) {
    const DoublingStep& step = plan_.steps[at_];
    if (sends(step) && !sent_)
      send(step);
    sent_ = true;
    if (receives(step)) {
      const auto found = arrived_.find({step.peer, phase_of(step)});
      if (found == arrived_.end())
        return;
      take(step, found->second);
      arrived_.erase(found);
    }
    sent_ = false;
    if (++at_ == plan_.steps.size())
      finish();
  }
}

void DoublingOperation::receive(Received frame) {
  const FrameHeader& header = frame.header;
  if ((header.phase != kSum && header.phase != kResult) || header.count != plan_.count ||
      header.payload_bytes != plan_.count * sizeof(float))
    corrupt_frame("rank " + std::to_string(frame.peer) + "'s is not one of recursive doubling");
  if (awaited() == std::vector{frame.peer})
    culprit_ = header.sender;
  const std::pair from(frame.peer, header.phase);
  arrived_.insert_or_assign(from, hold(std::move(frame), wires_->pool()));
  advance();
}

std::vector<int> DoublingOperation::awaited() const {
  if (at_ == plan_.steps.size() || !receives(plan_.steps[at_]))
    return {};
  return {plan_.steps[at_].peer};
}

void DoublingOperation::release() {
  sum_ = {};
  arrived_.clear();
}

void DoublingOperation::send(const DoublingStep& step) {
  FrameHeader header = header_of(key, group_, wires_->rank());
  header.sender = culprit_;
  header.param = plan_id;
  header.codec = kPlanCodecId;
  header.dtype = static_cast<std::uint8_t>(plan_.dtype);
  header.phase = phase_of(step);
  header.weight = weight_;
  header.count = plan_.count;
  header.payload_bytes = plan_.count * sizeof(float);
  wires_->send(step.peer, {header, sum_->data, sum_});
}

// Both sides of an exchange add in the same order: the lower rank's values first.
void DoublingOperation::take(const DoublingStep& step, const Received& frame) {
  const auto* theirs = reinterpret_cast<const float*>(frame.payload);
  // The old sum may still be on its way to the peer.
  BlockRef next = wires_->pool().take(plan_.count * sizeof(float));
  auto* result = reinterpret_cast<float*>(next->data);
  if (step.kind == DoublingStep::Kind::take_result) {
    std::memcpy(result, theirs, plan_.count * sizeof(float));
    weight_ = frame.header.weight;
  } else {
    const bool mine_first = wires_->rank() < step.peer;
    combine(plan_.combine, mine_first ? sum() : theirs, mine_first ? theirs : sum(), plan_.count,
            result);
    weight_ += frame.header.weight;
  }
  sum_ = std::move(next);
}

void DoublingOperation::finish() {
  if (plan_.check_weights && !adds_up(weight_)) {
    outcome_.slices.push_back({0, 0, wrong_weights(weight_)});
    return;
  }
  FrameHeader header;
  header.codec = kPlanCodecId;
  header.param = plan_id;
  header.count = plan_.count;
  header.payload_bytes = layout_.payload_bytes();
  decode_payload(layout_, header, sum_->data, out_, plan_.dtype, /*accumulate=*/false);
}

} // namespace thinwire
