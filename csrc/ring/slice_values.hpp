// The values of one call of a tree operation, slice by slice: where they lie, and what encoders are
// told of them. The same for values on the host and on a device.
#pragma once

#include "ring/device.hpp"
#include "ring/plan.hpp"

#include <memory>
#include <optional>
#include <vector>

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
  std::optional<OnDevice> where = {};  // where all this memory is a device's
};

// What an encoder is told, with the lists that its spans refer to.
struct Encodable {
  std::vector<void*> residual_in, residual_out;
  std::vector<std::uint8_t> held;
  FrameValues view;
};

class SliceValues {
public:
  SliceValues(std::shared_ptr<const TreePlan> plan, TreeValues values)
      : plan_(std::move(plan)), values_(std::move(values)) {}

  const TreePlan& plan() const { return *plan_; }
  const TreeValues& call() const { return values_; }
  const PlannedSlice& slice(std::size_t i) const { return plan_->slices[i]; }

  const void* input(std::size_t i) const;
  std::byte* output(std::size_t i) const;
  bool has_residual(std::size_t i) const;
  // Whether the bytes of the values are those of the frame, which has no padding behind them.
  bool travels_raw(std::size_t i) const;
  // Whether the sum of a slice can grow where its result belongs: that memory is in the cache when
  // the result is stored. A sampled sum is compared with its result, so it needs memory of its own.
  bool sums_in_output(std::size_t i) const;
  // Of a sum that is sent as it is.
  Layout exact_layout(std::size_t i) const;
  // As the layouts know a header. The engine has compared the whole identity.
  FrameHeader as_planned(FrameHeader header) const;
  std::uint64_t rounding_key(std::size_t i) const;

  // Keeps a parameter's residual out of the sum from now on.
  void hold(std::uint32_t parameter);

  Encodable own(std::size_t i) const;
  Encodable sum(std::size_t i, const float* sum) const;

  // A stretch of residual that an exact partial sum, which leaves nothing behind, sets to `from`,
  // or to zero if that is null: what a held segment keeps.
  struct Settled {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  std::vector<Settled> settled(std::size_t i) const;

private:
  std::size_t value_bytes() const;
  Encodable residuals(std::size_t i) const;

  std::shared_ptr<const TreePlan> plan_;
  TreeValues values_;
};

} // namespace thinwire
