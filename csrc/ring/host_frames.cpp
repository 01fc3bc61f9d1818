#include "ring/host_frames.hpp"

#include "ring/combine.hpp"

#include <cstring>
#include <string>

namespace thinwire {

Outgoing HostFrames::from_user(FrameHeader head, const void* payload, std::size_t bytes) {
  head.payload_bytes = bytes;
  users_in_use_ = true;
  return {head, static_cast<const std::byte*>(payload), BlockRef(users_)};
}

void HostFrames::reclaim(Block&) { users_in_use_ = false; }

// A frame of the layout's codecs. Keeps in the residuals what these lose.
Outgoing HostFrames::encoded(std::size_t i, FrameHeader head, const FrameValues& values) {
  const Layout& layout = slice(i).layout;
  BlockRef block = pool().take(layout.payload_bytes());
  const FrameHeader sent = head;
  head.step = values_.call().step;
  head = encode_payload(layout, head, values, values_.rounding_key(i), block->data);
  head.step = sent.step;
  head.param = sent.param;
  return {head, block->data, std::move(block)};
}

// A frame of fp32 values as they are. Their memory goes on as far as exact_layout() does.
Outgoing HostFrames::exact(std::size_t i, FrameHeader head, const float* values, BlockRef memory) {
  head.count = slice(i).count;
  head.payload_bytes = values_.exact_layout(i).payload_bytes();
  return {head, reinterpret_cast<const std::byte*>(values), std::move(memory)};
}

void HostFrames::make_own(std::size_t i, FrameHeader head) {
  const Stopwatch stopwatch(outcome_.costs.encode);
  if (head.phase == kDown) {
    make_source(i, head);
  } else if (values_.travels_raw(i) && values_.call().weight == 1) {
    head.count = slice(i).count;
    made(i, from_user(head, values_.input(i), head.count * sizeof(float)));
  } else if (slice(i).role.up_exact) {
    make_partial(i, head);
  } else {
    made(i, encoded(i, head, values_.own(i).view));
  }
}

void HostFrames::make_source(std::size_t i, FrameHeader head) {
  const bool has_output = slice(i).first_out != kNowhere;
  if (plan().verbatim) {
    head.count = slice(i).count;
    const void* input = values_.input(i);
    if (has_output && values_.output(i) != input)
      std::memcpy(values_.output(i), input, head.count);
    made(i, from_user(head, input, head.count));
  } else {
    Outgoing frame = encoded(i, head, values_.own(i).view);
    if (has_output)
      store_result(i, frame.header, frame.payload);
    made(i, std::move(frame));
  }
}

float* HostFrames::sum(std::size_t i) {
  float* begun = sums_[i].values;
  return begun != nullptr ? begun : begin_sum(i);
}

// Sets the sum to this rank's own values.
float* HostFrames::begin_sum(std::size_t i) {
  Sum& sum = sums_[i];
  if (values_.sums_in_output(i)) {
    sum.values = reinterpret_cast<float*>(values_.output(i));
  } else {
    sum.memory = pool().take(values_.exact_layout(i).payload_bytes());
    sum.values = reinterpret_cast<float*>(sum.memory->data);
  }
  const bool is_there = sum.values == values_.input(i) && values_.call().weight == 1;
  if (!is_there || values_.has_residual(i))
    fold(slice(i).layout, values_.own(i).view, sum.values);
  return sum.values;
}

void HostFrames::add(std::size_t i, Received frame) {
  const Stopwatch stopwatch(outcome_.costs.add);
  const Layout& layout = slice(i).layout;
  if (frame.header.payload_bytes == layout.payload_bytes())
    add_values(i, layout, frame);
  else
    add_values(i, values_.exact_layout(i), frame);
}

void HostFrames::add_values(std::size_t i, const Layout& layout, const Received& frame) {
  const FrameHeader head = values_.as_planned(frame.header);
  float* total = sum(i);
  if (plan().combine == Combine::add) {
    decode_payload(layout, head, frame.payload, total, DType::fp32, /*accumulate=*/true);
  } else {
    const BlockRef values = pool().take(layout.count() * sizeof(float));
    auto* decoded = reinterpret_cast<float*>(values->data);
    decode_payload(layout, head, frame.payload, decoded, DType::fp32, /*accumulate=*/false);
    combine(plan().combine, total, decoded, layout.count(), total);
  }
}

void HostFrames::make_partial(std::size_t i, FrameHeader head) {
  const float* total = sum(i);
  if (!slice(i).role.up_exact && !values_.travels_raw(i)) {
    made(i, encoded(i, head, values_.sum(i, total).view));
  } else {
    const BlockRef& memory = sums_[i].memory;
    Outgoing frame = exact(i, head, total, memory);
    const std::size_t values = frame.header.count * sizeof(float);
    std::memset(memory->data + values, 0, frame.header.payload_bytes - values);
    made(i, std::move(frame));
    settle_residuals(i);
  }
  drop_sum(i);
}

void HostFrames::make_result(std::size_t i, FrameHeader head) {
  Outgoing frame = result_frame(i, head);
  drop_sum(i);
  made(i, std::move(frame));
}

Outgoing HostFrames::result_frame(std::size_t i, FrameHeader head) {
  const Stopwatch stopwatch(outcome_.costs.result);
  const float* total = sum(i);
  if (plan().travel == Travel::up) {
    store_exact(i, head);
    settle_residuals(i);
    return {head, nullptr, {}};
  }
  if (values_.travels_raw(i)) {
    head.count = slice(i).count;
    if (plan().flag_nonfinite && count_nonfinite(total, head.count, DType::fp32) != 0)
      head.flags = kFlagNonfinite;
    return from_user(head, total, head.count * sizeof(float));
  }
  Outgoing frame = encoded(i, head, values_.sum(i, total).view);
  store_result(i, frame.header, frame.payload);
  if (values_.call().sample == slice(i).id && plan().dtype == DType::fp32)
    sample_error(i);
  return frame;
}

void HostFrames::sample_error(std::size_t i) {
  const auto* decoded = reinterpret_cast<const float*>(values_.output(i));
  outcome_.add_sample(sums_[i].values, decoded, slice(i).count);
}

void HostFrames::store_exact(std::size_t i, FrameHeader head) {
  const Outgoing frame = exact(i, head, sums_[i].values, {});
  if (frame.payload != values_.output(i))
    decode_payload(values_.exact_layout(i), values_.as_planned(frame.header), frame.payload,
                   values_.output(i), plan().dtype, /*accumulate=*/false);
}

std::byte* HostFrames::place(std::size_t i, const FrameHeader& header) {
  const bool is_raw = plan().travel == Travel::up_and_down && values_.travels_raw(i);
  const std::size_t bytes = plan().verbatim ? header.count : header.count * sizeof(float);
  const bool is_as_it_is = plan().verbatim || is_raw;
  return is_as_it_is && header.payload_bytes == bytes ? values_.output(i) : nullptr;
}

void HostFrames::store(std::size_t i, Received& frame) {
  store_result(i, frame.header, frame.payload);
}

void HostFrames::store_result(std::size_t i, const FrameHeader& header, const std::byte* payload) {
  std::byte* output = values_.output(i);
  if (payload == output) // it was received there
    return;
  const Stopwatch stopwatch(outcome_.costs.decode);
  if (!plan().verbatim) {
    decode_payload(slice(i).layout, values_.as_planned(header), payload, output, plan().dtype,
                   /*accumulate=*/false);
    return;
  }
  if (header.payload_bytes != slice(i).count)
    corrupt_frame(std::to_string(header.payload_bytes) + " bytes in the place of " +
                  std::to_string(slice(i).count));
  std::memcpy(output, payload, slice(i).count);
}

void HostFrames::forward(std::size_t i, Received frame) {
  if (frame.payload == values_.output(i))
    return forwarded(i, from_user(frame.header, frame.payload, frame.header.payload_bytes));
  TreeFrames::forward(i, std::move(frame));
}

// An exact partial sum leaves nothing behind, but for what a held segment keeps.
void HostFrames::settle_residuals(std::size_t i) {
  for (const SliceValues::Settled& part : values_.settled(i)) {
    if (part.from == nullptr)
      std::memset(part.to, 0, part.bytes);
    else
      std::memcpy(part.to, part.from, part.bytes);
  }
}

} // namespace thinwire
