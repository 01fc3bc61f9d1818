// What the frames of a tree operation hold: sums, encoded or exact, and the caller's own memory.
#include "ring/tree_operation.hpp"

#include "hash/xxh3.hpp"
#include "ring/combine.hpp"

#include <algorithm>
#include <cstring>

namespace thinwire {
namespace {

std::byte* at(void* base, std::size_t bytes) { return static_cast<std::byte*>(base) + bytes; }

// Adds the time of a scope to a total.
class Stopwatch {
public:
  explicit Stopwatch(double& total) : total_(total), begin_(Clock::now()) {}
  ~Stopwatch() { total_ += to_seconds(Clock::now() - begin_); }

private:
  double& total_;
  Clock::time_point begin_;
};

} // namespace

FrameHeader TreeOperation::header(std::size_t i, Phase phase) const {
  FrameHeader header = header_of(key, group_, wires_->rank());
  header.slice = plan_->slices[i].id;
  header.param = plan_id;
  header.codec = kPlanCodecId;
  header.dtype = static_cast<std::uint8_t>(plan_->dtype);
  header.phase = phase;
  header.weight = values_.weight;
  header.sender = tasks_[i].culprit.value_or(header.sender);
  return header;
}

// As the layouts know a header. The engine has compared the whole identity.
FrameHeader TreeOperation::as_planned(FrameHeader header) const {
  header.param = plan_->plan_id;
  return header;
}

// Of one value in the caller's memory.
std::size_t TreeOperation::value_bytes() const {
  return plan_->verbatim ? 1 : element_bytes(plan_->dtype);
}

const void* TreeOperation::input(std::size_t i) const {
  return static_cast<const std::byte*>(values_.in) + plan_->slices[i].first_in * value_bytes();
}

std::byte* TreeOperation::output(std::size_t i) const {
  return at(values_.out, plan_->slices[i].first_out * value_bytes());
}

// The residuals and holds of one slice, in the form the kernels take.
struct TreeOperation::Residuals {
  std::vector<void*> source, target;
  std::vector<std::uint8_t> held;

  // A held segment's residual is not in a sum yet: what encoding the sum loses comes on top of it.
  std::vector<void*> kept() const {
    std::vector<void*> found;
    if (!source.empty() && !held.empty())
      for (std::size_t s = 0; s < held.size(); ++s)
        found.push_back(held[s] != 0 ? source[s] : nullptr);
    return found;
  }
};

TreeOperation::Residuals TreeOperation::residuals(std::size_t i) const {
  const PlannedSlice& slice = plan_->slices[i];
  Residuals found;
  if (values_.residual != nullptr) {
    void* mine = at(values_.residual, slice.first_in * element_bytes(plan_->residual_dtype));
    found.source = found.target = {mine};
  } else {
    found.source = slice.residuals[static_cast<std::size_t>(values_.source)];
    found.target = slice.residuals[static_cast<std::size_t>(values_.target)];
  }
  if (!values_.held.empty())
    for (std::uint32_t parameter : slice.parameters)
      found.held.push_back(values_.held[parameter]);
  return found;
}

bool TreeOperation::has_residual(std::size_t i) const {
  return values_.residual != nullptr || !plan_->slices[i].residuals[0].empty();
}

// Whether the bytes of the values are those of the frame, which has no padding behind them.
bool TreeOperation::travels_raw(std::size_t i) const {
  const Layout& layout = plan_->slices[i].layout;
  return plan_->dtype == DType::fp32 && !has_residual(i) && layout.segments().size() == 1 &&
         layout.segments()[0].codec.wire_id == Raw::kWireId &&
         layout.payload_bytes() == layout.count() * sizeof(float);
}

// Whether the sum of a slice can grow where its result belongs: that memory is in the cache when
// the result is stored. A sampled sum is compared with its result, so it needs memory of its own.
bool TreeOperation::sums_in_output(std::size_t i) const {
  const PlannedSlice& slice = plan_->slices[i];
  return slice.role.up < 0 && plan_->dtype == DType::fp32 &&
         (travels_raw(i) || slice.id != values_.sample);
}

// An exact partial sum leaves nothing behind, but for what a held segment keeps.
void TreeOperation::deliver_everything(std::size_t i) {
  const Residuals r = residuals(i);
  const std::vector<Segment>& segments = plan_->slices[i].layout.segments();
  for (std::size_t s = 0; s < r.target.size(); ++s) {
    if (r.target[s] == nullptr)
      continue;
    const std::size_t bytes = segments[s].count * element_bytes(plan_->residual_dtype);
    if (r.held.empty() || r.held[s] == 0)
      std::memset(r.target[s], 0, bytes);
    else if (r.target[s] != r.source[s])
      std::memcpy(r.target[s], r.source[s], bytes);
  }
}

std::uint64_t TreeOperation::rounding_key(std::size_t i) const {
  const std::uint64_t seed_and_step[] = {plan_->slices[i].key_seed, values_.step};
  return xxh3_64(seed_and_step, sizeof seed_and_step);
}

Outgoing TreeOperation::from_user(FrameHeader header, const void* payload, std::size_t bytes) {
  header.payload_bytes = bytes;
  users_in_use_ = true;
  return {header, static_cast<const std::byte*>(payload), BlockRef(users_)};
}

void TreeOperation::reclaim(Block&) { users_in_use_ = false; }

// A frame of the layout's codecs. Keeps in the residuals what these lose.
Outgoing TreeOperation::encoded(std::size_t i, Phase phase, const void* x, DType dtype,
                                double weight, bool is_sum) {
  const Layout& layout = plan_->slices[i].layout;
  const Residuals r = residuals(i);
  const std::vector<void*> kept = r.kept();
  const FrameValues values{.x = x,
                           .dtype = dtype,
                           .scale = is_sum ? 1.0f : static_cast<float>(values_.weight),
                           .residual_in = is_sum ? kept : r.source,
                           .residual_out = r.target,
                           .residual_dtype = plan_->residual_dtype,
                           .held = r.held};
  BlockRef block = wires_->pool().take(layout.payload_bytes());
  FrameHeader head = header(i, phase);
  head.step = values_.step;
  head.weight = weight;
  head = encode_payload(layout, head, values, rounding_key(i), block->data);
  head.step = key.step;
  head.param = plan_id;
  return {head, block->data, std::move(block)};
}

// A frame of fp32 values as they are. Their memory goes on as far as exact_layout() does.
Outgoing TreeOperation::exact(std::size_t i, Phase phase, const float* values, double weight,
                              BlockRef memory) {
  FrameHeader head = header(i, phase);
  head.weight = weight;
  head.count = plan_->slices[i].count;
  head.payload_bytes = exact_layout(i).payload_bytes();
  return {head, reinterpret_cast<const std::byte*>(values), std::move(memory)};
}

Outgoing TreeOperation::abort_frame(std::size_t i, Phase phase) {
  const Failure& failure = *tasks_[i].failure;
  FrameHeader head = header(i, phase);
  head.flags = kFlagAborted;
  head.param = static_cast<std::uint32_t>(failure.number);
  head.payload_bytes = std::min(failure.reason.size(), kMaxPayload);
  BlockRef block = wires_->pool().take(head.payload_bytes);
  std::memcpy(block->data, failure.reason.data(), head.payload_bytes);
  return {head, block->data, std::move(block)};
}

Failure TreeOperation::failure_in(const Received& frame) {
  return {static_cast<ErrorNumber>(frame.header.param),
          {reinterpret_cast<const char*>(frame.payload), frame.header.payload_bytes}};
}

void TreeOperation::send_leaf(std::size_t i) {
  const Stopwatch stopwatch(outcome_.costs.encode);
  const PlannedSlice& slice = plan_->slices[i];
  const bool as_it_is = travels_raw(i) && values_.weight == 1;
  if (as_it_is) {
    FrameHeader head = header(i, kUp);
    head.count = slice.count;
    send_up(i, from_user(head, input(i), slice.count * sizeof(float)));
  } else if (slice.role.up_exact) {
    begin_sum(i);
    finish_sum(i);
  } else {
    send_up(i, encoded(i, kUp, input(i), plan_->dtype, values_.weight, /*is_sum=*/false));
  }
}

void TreeOperation::send_source(std::size_t i) {
  const Stopwatch stopwatch(outcome_.costs.encode);
  const PlannedSlice& slice = plan_->slices[i];
  if (plan_->verbatim) {
    FrameHeader head = header(i, kDown);
    head.count = slice.count;
    distribute(i, from_user(head, input(i), slice.count));
    if (slice.first_out != kNowhere && output(i) != input(i))
      std::memcpy(output(i), input(i), slice.count);
  } else {
    Outgoing frame = encoded(i, kDown, input(i), plan_->dtype, values_.weight, /*is_sum=*/false);
    if (slice.first_out != kNowhere)
      store_result(i, frame.header, frame.payload);
    distribute(i, frame);
  }
  finish_task(i);
}

// Sets the sum to this rank's own values.
void TreeOperation::begin_sum(std::size_t i) {
  Task& task = tasks_[i];
  const PlannedSlice& slice = plan_->slices[i];
  if (sums_in_output(i)) {
    task.sum = reinterpret_cast<float*>(output(i));
  } else {
    task.sum_memory = wires_->pool().take(exact_layout(i).payload_bytes());
    task.sum = reinterpret_cast<float*>(task.sum_memory->data);
  }
  task.weight = values_.weight;
  task.summing = true;
  if (task.sum == input(i) && values_.weight == 1 && !has_residual(i))
    return;
  const Residuals r = residuals(i);
  fold(slice.layout,
       {.x = input(i),
        .dtype = plan_->dtype,
        .scale = static_cast<float>(values_.weight),
        .residual_in = r.source,
        .residual_dtype = plan_->residual_dtype,
        .held = r.held},
       task.sum);
}

void TreeOperation::add_child(std::size_t i, const Received& frame) {
  const Stopwatch stopwatch(outcome_.costs.add);
  Task& task = tasks_[i];
  ++task.next_child;
  if ((frame.header.flags & kFlagAborted) != 0) {
    if (!task.failure)
      task.failure = failure_in(frame);
    return;
  }
  if (!task.summing)
    begin_sum(i);
  task.weight += frame.header.weight;
  const Layout& layout = plan_->slices[i].layout;
  if (frame.header.payload_bytes == layout.payload_bytes())
    add_values(i, layout, frame);
  else
    add_values(i, exact_layout(i), frame);
}

void TreeOperation::add_values(std::size_t i, const Layout& layout, const Received& frame) {
  float* sum = tasks_[i].sum;
  const FrameHeader head = as_planned(frame.header);
  if (plan_->combine == Combine::add) {
    decode_payload(layout, head, frame.payload, sum, DType::fp32, /*accumulate=*/true);
  } else {
    const BlockRef values = wires_->pool().take(layout.count() * sizeof(float));
    auto* decoded = reinterpret_cast<float*>(values->data);
    decode_payload(layout, head, frame.payload, decoded, DType::fp32, /*accumulate=*/false);
    combine(plan_->combine, sum, decoded, layout.count(), sum);
  }
}

Layout TreeOperation::exact_layout(std::size_t i) const {
  return Layout({{plan_->slices[i].count, CodecSpec{}}}, plan_->plan_id);
}

void TreeOperation::send_partial(std::size_t i) {
  Task& task = tasks_[i];
  const Role& role = plan_->slices[i].role;
  if (task.failure) {
    send_up(i, abort_frame(i, kUp));
  } else if (role.up_exact || travels_raw(i)) {
    Outgoing frame = exact(i, kUp, task.sum, task.weight, task.sum_memory);
    const std::size_t values = frame.header.count * sizeof(float);
    std::memset(task.sum_memory->data + values, 0, frame.header.payload_bytes - values);
    send_up(i, std::move(frame));
    deliver_everything(i);
  } else {
    send_up(i, encoded(i, kUp, task.sum, DType::fp32, task.weight, /*is_sum=*/true));
  }
}

// The result of a slice whose owner this rank is: encoded once, and decoded here as everywhere.
Outgoing TreeOperation::result_frame(std::size_t i) {
  const Stopwatch stopwatch(outcome_.costs.result);
  Task& task = tasks_[i];
  if (plan_->travel == Travel::up) {
    store_exact(i, task.sum);
    deliver_everything(i);
    return {header(i, kDown), nullptr, {}};
  }
  if (travels_raw(i)) {
    FrameHeader head = header(i, kDown);
    head.count = plan_->slices[i].count;
    if (plan_->flag_nonfinite && count_nonfinite(task.sum, head.count, DType::fp32) != 0)
      head.flags = kFlagNonfinite;
    return from_user(head, task.sum, head.count * sizeof(float));
  }
  Outgoing frame = encoded(i, kDown, task.sum, DType::fp32, task.weight, /*is_sum=*/true);
  store_result(i, frame.header, frame.payload);
  if (values_.sample == plan_->slices[i].id && plan_->dtype == DType::fp32)
    sample_error(i);
  return frame;
}

void TreeOperation::sample_error(std::size_t i) {
  const auto* decoded = reinterpret_cast<const float*>(output(i));
  for (std::size_t k = 0; k < plan_->slices[i].count; ++k) {
    const double wanted = tasks_[i].sum[k], lost = wanted - decoded[k];
    outcome_.sampled_error += lost * lost;
    outcome_.sampled_total += wanted * wanted;
  }
}

void TreeOperation::store_exact(std::size_t i, const float* values) {
  const Outgoing frame = exact(i, kDown, values, 0, {});
  if (frame.payload != output(i))
    decode_payload(exact_layout(i), as_planned(frame.header), frame.payload, output(i),
                   plan_->dtype,
                   /*accumulate=*/false);
}

void TreeOperation::store_result(std::size_t i, const FrameHeader& header,
                                 const std::byte* payload) {
  const PlannedSlice& slice = plan_->slices[i];
  if (payload == output(i)) // it was received there
    return;
  const Stopwatch stopwatch(outcome_.costs.decode);
  if (!plan_->verbatim) {
    decode_payload(slice.layout, as_planned(header), payload, output(i), plan_->dtype,
                   /*accumulate=*/false);
    return;
  }
  if (header.payload_bytes != slice.count)
    corrupt_frame(std::to_string(header.payload_bytes) + " bytes in the place of " +
                  std::to_string(slice.count));
  std::memcpy(output(i), payload, slice.count);
}

Outgoing TreeOperation::forwarded(std::size_t i, Received frame) {
  if (frame.payload == output(i))
    return from_user(frame.header, frame.payload, frame.header.payload_bytes);
  Received held = hold(std::move(frame), wires_->pool());
  return {held.header, held.payload, std::move(held.keep)};
}

} // namespace thinwire
