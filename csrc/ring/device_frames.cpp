#include "ring/device_frames.hpp"

#include "dispatch/frame_steps.hpp"
#include "ring/windows.hpp"

#include <cstring>

namespace thinwire {

void DeviceFrames::after_all(std::function<void()> then) {
  under_way_.push_back({device_.mark(), std::move(then)});
  has_unmarked_ = false;
  unmarked_.clear();
}

Device& DeviceFrames::queue() {
  has_unmarked_ = true;
  return device_;
}

BlockRef DeviceFrames::take(std::size_t bytes) {
  unmarked_.push_back(pool().take(bytes));
  return unmarked_.back();
}

void DeviceFrames::advance() {
  while (!under_way_.empty() && device_.passed(under_way_.front().mark)) {
    const std::function<void()> then = std::move(under_way_.front().then);
    under_way_.pop_front();
    then();
  }
}

// What is queued refers to memory that is given back. It waits for nothing, so it is soon done.
void DeviceFrames::release() {
  if (has_unmarked_ || !under_way_.empty())
    device_.settle();
  under_way_.clear();
  unmarked_.clear();
  sums_.clear();
}

// Nothing is queued before the caller's values are there, so that the queue is never held up.
bool DeviceFrames::is_ready(Wires& wires) {
  TreeFrames::is_ready(wires);
  windows().use(where_.device);
  if (!is_watched_) {
    if (where_.ready != nullptr && !device_.passed(where_.ready))
      return false;
    is_watched_ = true;
    if (!where_.watched.empty())
      look_for_zeros();
  }
  advance();
  return under_way_.empty();
}

// A parameter whose values are all zero keeps its residual out of the sum.
void DeviceFrames::look_for_zeros() {
  const std::vector<Watched>& watched = where_.watched;
  const auto* values = static_cast<const std::byte*>(values_.call().in);
  std::vector<Stretch> stretches;
  for (const Watched& w : watched)
    stretches.push_back({values + w.first * element_bytes(plan().dtype), w.count});
  const std::size_t bytes = watched.size() * sizeof(std::uint32_t);
  const DeviceMemory found(device_, bytes);
  BlockRef block = take(bytes);
  queue().zero(found.get(), bytes);
  queue().find_nonzero(stretches, plan().dtype, reinterpret_cast<std::uint32_t*>(found.get()));
  queue().copy_to_host(block->data, found.get(), bytes);
  after_all([this, block] {
    const auto* is_used = reinterpret_cast<const std::uint32_t*>(block->data);
    for (std::size_t w = 0; w < where_.watched.size(); ++w)
      if (is_used[w] == 0)
        values_.hold(where_.watched[w].parameter);
  });
}

// Room in the window for a frame of that phase, where all to whom it goes read it there.
BlockRef DeviceFrames::take_place(std::size_t i, std::uint8_t phase, std::size_t payload_bytes) {
  const Role& role = slice(i).role;
  const std::span<const int> peers =
      phase == kUp ? std::span(&role.up, 1) : std::span<const int>(role.down_to);
  BlockRef place = windows().take(where_.device, peers, payload_bytes, in_window_);
  if (place)
    unmarked_.push_back(place);
  return place;
}

// A rank that is far ahead waits until some of what it has there was read. Where none of that is
// this operation's, it could wait for ever.
bool DeviceFrames::has_room() const { return *in_window_ == 0 || windows().is_roomy(device_); }

// Encodes, and decodes the frame into `result` if there is one. What lies in a window is sent
// without being copied, when it is whole: no queue ever waits for another rank's.
void DeviceFrames::make(std::size_t i, FrameHeader head, const Layout& layout,
                        const FrameValues& values, const std::optional<Target>& result) {
  BlockRef place;
  if (is_any_payload_valid(layout))
    place = take_place(i, head.phase, layout.payload_bytes());
  std::optional<DeviceMemory> own;
  if (!place)
    own.emplace(device_, layout.frame_bytes());
  std::byte* frame = place ? place->data : own->get();
  const std::size_t bytes = place ? sizeof(std::uint64_t) : layout.frame_bytes(); // to the host
  BlockRef block = take(bytes);
  queue().encode(layout, values, values_.rounding_key(i), values_.call().step, frame);
  queue().copy_to_host(block->data, frame, bytes);
  FrameHeader whole = complete_header(layout, head, values.dtype, false);
  whole.param = head.param;
  in_making_ += bytes;
  after_all([this, i, whole, bytes, block, place] {
    in_making_ -= bytes;
    std::uint64_t nonfinite;
    std::memcpy(&nonfinite, block->data, sizeof nonfinite);
    FrameHeader sent = whole;
    sent.flags = nonfinite != 0 ? std::uint32_t{kFlagNonfinite} : 0;
    made(i, place ? windows().frame(device_, sent, place)
                  : Outgoing{sent, block->data + kHeaderBytes, block});
  });
  if (result) { // the frame does not wait for it
    queue().decode(layout, frame, result->out, result->dtype, result->accumulate);
    after_all([] {});
  }
}

// The frame, held, where the device can read it.
Received DeviceFrames::fetch(Received frame) {
  return is_in_window(frame.header) ? windows().bring(std::move(frame), where_.device)
                                    : hold(std::move(frame), pool());
}

// `held` stays until the device has read it.
void DeviceFrames::decode(const Layout& layout, const Received& held, const Target& target) {
  unmarked_.push_back(held.keep);
  if (is_in_window(held.header)) {
    check_header(layout, values_.as_planned(whole_header(held.header, held.payload)));
    if (!is_any_payload_valid(layout))
      corrupt_frame("what is to be looked at before it is decoded must not lie in a window");
    const std::byte* frame = windows().frame_of(held, where_.device);
    queue().decode(layout, frame, target.out, target.dtype, target.accumulate);
  } else {
    check_payload(layout, values_.as_planned(held.header), held.payload);
    const DeviceMemory frame(device_, layout.frame_bytes());
    queue().copy_to_device(frame.get() + kHeaderBytes, held.payload, held.header.payload_bytes);
    queue().decode(layout, frame.get(), target.out, target.dtype, target.accumulate);
  }
  after_all([keep = held.keep] {});
}

void DeviceFrames::make_own(std::size_t i, FrameHeader head) {
  const Stopwatch stopwatch(outcome_.costs.encode);
  if (slice(i).role.up_exact)
    make_partial(i, head);
  else
    make(i, head, slice(i).layout, values_.own(i).view, std::nullopt);
}

float* DeviceFrames::sum(std::size_t i) {
  float* begun = sums_[i].values;
  return begun != nullptr ? begun : begin_sum(i);
}

// Sets the sum to this rank's own values.
float* DeviceFrames::begin_sum(std::size_t i) {
  Sum& sum = sums_[i];
  if (values_.sums_in_output(i)) {
    sum.values = reinterpret_cast<float*>(values_.output(i));
  } else {
    sum.memory.emplace(device_, slice(i).count * sizeof(float));
    sum.values = reinterpret_cast<float*>(sum.memory->get());
  }
  queue().fold(slice(i).layout, values_.own(i).view, sum.values);
  return sum.values;
}

void DeviceFrames::add(std::size_t i, Received frame) {
  const Stopwatch stopwatch(outcome_.costs.add);
  const Received held = fetch(std::move(frame));
  const Target target{sum(i), DType::fp32, /*accumulate=*/true};
  const Layout& layout = slice(i).layout;
  if (whole_header(held.header, held.payload).payload_bytes == layout.payload_bytes())
    decode(layout, held, target);
  else
    decode(values_.exact_layout(i), held, target);
}

void DeviceFrames::make_partial(std::size_t i, FrameHeader head) {
  const float* total = sum(i);
  if (slice(i).role.up_exact) {
    settle_residuals(i);
    make(i, head, values_.exact_layout(i), {.x = total, .dtype = DType::fp32}, std::nullopt);
  } else {
    make(i, head, slice(i).layout, values_.sum(i, total).view, std::nullopt);
  }
  drop_sum(i);
}

void DeviceFrames::make_result(std::size_t i, FrameHeader head) {
  const Stopwatch stopwatch(outcome_.costs.result);
  const Target output{values_.output(i), plan().dtype, /*accumulate=*/false};
  make(i, head, slice(i).layout, values_.sum(i, sum(i)).view, output);
  if (values_.call().sample == slice(i).id && plan().dtype == DType::fp32 &&
      !values_.travels_raw(i))
    sample_error(i);
  drop_sum(i);
}

void DeviceFrames::store(std::size_t i, Received& frame) {
  const Stopwatch stopwatch(outcome_.costs.decode);
  frame = fetch(std::move(frame));
  decode(slice(i).layout, frame, {values_.output(i), plan().dtype, /*accumulate=*/false});
}

// What lies in another rank's window goes on through this one's.
void DeviceFrames::forward(std::size_t i, Received frame) {
  if (!is_in_window(frame.header))
    return TreeFrames::forward(i, std::move(frame));
  const FrameHeader whole = whole_header(frame.header, frame.payload);
  const std::byte* payload = windows().frame_of(frame, where_.device) + kHeaderBytes;
  const BlockRef place = take_place(i, whole.phase, whole.payload_bytes);
  const BlockRef block = place ? BlockRef() : take(whole.payload_bytes);
  unmarked_.push_back(frame.keep);
  if (place)
    queue().copy(place->data + kHeaderBytes, payload, whole.payload_bytes);
  else
    queue().copy_to_host(block->data, payload, whole.payload_bytes);
  after_all([this, i, whole, place, block, keep = frame.keep] {
    forwarded(i,
              place ? windows().frame(device_, whole, place) : Outgoing{whole, block->data, block});
  });
}

void DeviceFrames::sample_error(std::size_t i) {
  const std::size_t count = slice(i).count, bytes = count * sizeof(float);
  const BlockRef sum = take(bytes), decoded = take(bytes);
  queue().copy_to_host(sum->data, sums_[i].values, bytes);
  queue().copy_to_host(decoded->data, values_.output(i), bytes);
  after_all([this, count, sum, decoded] {
    outcome_.add_sample(reinterpret_cast<const float*>(sum->data),
                        reinterpret_cast<const float*>(decoded->data), count);
  });
}

// An exact partial sum leaves nothing behind, but for what a held segment keeps.
void DeviceFrames::settle_residuals(std::size_t i) {
  for (const SliceValues::Settled& part : values_.settled(i)) {
    if (part.from == nullptr)
      queue().zero(part.to, part.bytes);
    else
      queue().copy(part.to, part.from, part.bytes);
  }
}

} // namespace thinwire
