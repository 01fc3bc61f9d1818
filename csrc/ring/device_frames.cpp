#include "ring/device_frames.hpp"

#include "dispatch/frame_steps.hpp"
#include "ring/windows.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace thinwire {
namespace {

// At a time: their working memory is bounded, and frames leave before all of a stage are encoded.
constexpr std::size_t kMostTogether = 64;

template <class Work, class Fn> void in_parts(std::vector<Work>& work, Fn give) {
  for (std::size_t at = 0; at < work.size(); at += kMostTogether)
    give(std::span(work).subspan(at, std::min(kMostTogether, work.size() - at)));
}

} // namespace

void DeviceFrames::after_all(std::function<void()> then) {
  under_way_.push_back({device_.mark(), std::move(then)});
  has_unmarked_ = false;
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

void DeviceFrames::flush() {
  if (batch_.is_empty() && unmarked_.empty() && !has_unmarked_)
    return;
  DeviceBatch batch = std::exchange(batch_, {});
  for (DeviceBatch::Stage& stage : batch.stages()) {
    in_parts(stage.folds, [this](std::span<const Folding> some) { fold(some); });
    in_parts(stage.decodes, [this](std::span<const Decoding> some) { decode(some); });
    in_parts(stage.encodes, [this](std::span<FrameInMaking> some) { encode(some); });
    for (const std::function<void()>& task : stage.tasks)
      task();
  }
  if (has_unmarked_)
    after_all([] {});
  if (!under_way_.empty()) { // or all that refers to it is done
    std::vector<BlockRef>& last = under_way_.back().refers_to;
    last.insert(last.end(), unmarked_.begin(), unmarked_.end());
  }
  unmarked_.clear();
}

void DeviceFrames::fold(std::span<const Folding> sums) {
  const Stopwatch stopwatch(outcome_.costs.add);
  queue().fold(sums);
}

void DeviceFrames::decode(std::span<const Decoding> frames) {
  const auto added = static_cast<std::size_t>(std::count_if(
      frames.begin(), frames.end(), [](const Decoding& frame) { return frame.accumulate; }));
  const DividedStopwatch stopwatch(outcome_.costs.add, added, outcome_.costs.decode,
                                   frames.size() - added);
  queue().decode(frames);
}

// What lies in windows stays on the device, but for what was not finite there, which comes to the
// host together. The frames do not wait for later work.
void DeviceFrames::encode(std::span<FrameInMaking> frames) {
  const auto results = static_cast<std::size_t>(std::count_if(
      frames.begin(), frames.end(), [](const auto& frame) { return frame.header.phase == kDown; }));
  const DividedStopwatch stopwatch(outcome_.costs.result, results, outcome_.costs.encode,
                                   frames.size() - results);
  const auto in_windows = static_cast<std::size_t>(
      std::count_if(frames.begin(), frames.end(), [](const auto& frame) { return frame.place; }));
  const std::size_t bytes = in_windows * sizeof(std::uint64_t);
  std::optional<DeviceMemory> counts;
  BlockRef told;
  if (in_windows != 0) {
    counts.emplace(device_, bytes);
    told = take(bytes);
  }
  std::vector<Encoding> encodings;
  std::size_t next = 0;
  for (FrameInMaking& frame : frames) {
    if (frame.place) {
      frame.block = told;
      frame.count = std::exchange(next, next + sizeof(std::uint64_t));
      frame.encoding.nonfinite = count_in(counts->get() + frame.count);
    }
    encodings.push_back(frame.encoding);
  }
  queue().encode(encodings);
  for (FrameInMaking& frame : frames)
    if (!frame.place) {
      const std::size_t whole = frame_bytes(frame.header);
      frame.block = take(whole);
      queue().copy_to_host(frame.block->data, frame.encoding.frame, whole);
    }
  if (in_windows != 0)
    queue().copy_to_host(told->data, counts->get(), bytes);
  after_all([this, made = std::vector(frames.begin(), frames.end())] {
    for (const FrameInMaking& frame : made)
      finish(frame);
  });
}

// What is queued refers to memory that is given back. It waits for nothing, so it is soon done.
void DeviceFrames::release() {
  if (has_unmarked_ || !under_way_.empty())
    device_.settle();
  batch_.clear();
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

// What lies in the window costs its reader no memory, and a launch does much at a time. With a
// slice of its own a rank only waits for others.
std::size_t DeviceFrames::bytes_ahead(std::size_t i) const {
  const int owner = slice(i).role.up;
  const bool is_in_window =
      owner < 0 || (is_any_payload_valid(slice(i).layout) && windows().is_open_to(owner, device_));
  return std::max(TreeFrames::bytes_ahead(i), is_in_window ? windows().bytes_ahead() : 0);
}

// Encodes, and decodes the frame into `result` if there is one. What lies in a window is sent
// without being copied, when it is whole: no queue ever waits for another rank's.
void DeviceFrames::make(std::size_t i, FrameHeader head, const Layout& layout, Encodable values,
                        const std::optional<Target>& result) {
  const FrameValues& view = batch_.keep(std::move(values));
  BlockRef place;
  if (is_any_payload_valid(layout))
    place = take_place(i, head.phase, layout.payload_bytes());
  std::byte* frame = place ? place->data : batch_.keep(DeviceMemory(device_, layout.frame_bytes()));
  FrameHeader whole = complete_header(layout, head, view.dtype, false);
  whole.param = head.param;
  if (!place)
    in_making_ += layout.frame_bytes();
  const Encoding encoding{&layout, view,           values_.rounding_key(i), values_.call().step,
                          frame,   count_in(frame)};
  batch_.next(i).encodes.push_back({encoding, i, whole, std::move(place)});
  if (result)
    batch_.next(i).decodes.push_back(
        {&layout, frame, result->out, result->dtype, result->accumulate});
}

// Hands on a frame that is whole.
void DeviceFrames::finish(const FrameInMaking& frame) {
  const auto& [encoding, i, header, place, block, count] = frame;
  if (!place)
    in_making_ -= frame_bytes(header);
  std::uint64_t nonfinite;
  std::memcpy(&nonfinite, block->data + count, sizeof nonfinite);
  FrameHeader sent = header;
  sent.flags = nonfinite != 0 ? std::uint32_t{kFlagNonfinite} : 0;
  made(i, place ? windows().frame(device_, sent, place)
                : Outgoing{sent, block->data + kHeaderBytes, block});
}

// The frame, held, where the device can read it.
Received DeviceFrames::fetch(Received frame) {
  return is_in_window(frame.header) ? windows().bring(std::move(frame), where_.device)
                                    : hold(std::move(frame), pool());
}

// Where the device can read the frame, which is safe to decode. `held` stays until it has.
const std::byte* DeviceFrames::on_device(const Layout& layout, const Received& held) {
  unmarked_.push_back(held.keep);
  if (is_in_window(held.header)) {
    check_header(layout, values_.as_planned(whole_header(held.header, held.payload)));
    if (!is_any_payload_valid(layout))
      corrupt_frame("what is to be looked at before it is decoded must not lie in a window");
    return windows().frame_of(held, where_.device);
  }
  check_payload(layout, values_.as_planned(held.header), held.payload);
  std::byte* frame = batch_.keep(DeviceMemory(device_, layout.frame_bytes()));
  queue().copy_to_device(frame + kHeaderBytes, held.payload, held.header.payload_bytes);
  return frame;
}

void DeviceFrames::decode(std::size_t i, const Layout& layout, const Received& held,
                          const Target& target) {
  batch_.next(i).decodes.push_back(
      {&layout, on_device(layout, held), target.out, target.dtype, target.accumulate});
}

void DeviceFrames::make_own(std::size_t i, FrameHeader head) {
  const Stopwatch stopwatch(outcome_.costs.encode);
  if (slice(i).role.up_exact)
    make_partial(i, head);
  else
    make(i, head, slice(i).layout, values_.own(i), std::nullopt);
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
  batch_.next(i).folds.push_back({&slice(i).layout, batch_.keep(values_.own(i)), sum.values});
  return sum.values;
}

void DeviceFrames::add(std::size_t i, Received frame) {
  const Stopwatch stopwatch(outcome_.costs.add);
  const Received held = fetch(std::move(frame));
  const Layout& layout = slice(i).layout;
  if (is_added_by_encoding(i)) {
    sums_[i].addend = on_device(layout, held) + kHeaderBytes;
    return;
  }
  const Target target{sum(i), DType::fp32, /*accumulate=*/true};
  if (whole_header(held.header, held.payload).payload_bytes == layout.payload_bytes())
    decode(i, layout, held, target);
  else
    decode(i, batch_.keep(values_.exact_layout(i)), held, target);
}

// Raw values of the only other rank take the place of a residual, which raw values do not have. The
// sum needs no memory of its own then.
bool DeviceFrames::is_added_by_encoding(std::size_t i) const {
  const Role& role = slice(i).role;
  return values_.travels_raw(i) && role.up_from.size() == 1 && !role.up_exact;
}

// What is encoded as the sum.
Encodable DeviceFrames::total(std::size_t i) {
  if (sums_[i].addend == nullptr)
    return values_.sum(i, sum(i));
  Encodable total = values_.own(i);
  total.view.held = {};
  total.residual_in = {const_cast<std::byte*>(sums_[i].addend)}; // only read
  total.view.residual_in = total.residual_in;
  total.view.residual_dtype = DType::fp32;
  return total;
}

void DeviceFrames::drop_sum(std::size_t i) {
  Sum dropped = std::exchange(sums_[i], {});
  if (dropped.memory)
    batch_.keep(std::move(*dropped.memory));
}

void DeviceFrames::make_partial(std::size_t i, FrameHeader head) {
  if (slice(i).role.up_exact) {
    Encodable exact;
    exact.view = {.x = sum(i), .dtype = DType::fp32};
    settle_residuals(i);
    make(i, head, batch_.keep(values_.exact_layout(i)), std::move(exact), std::nullopt);
  } else {
    make(i, head, slice(i).layout, total(i), std::nullopt);
  }
  drop_sum(i);
}

void DeviceFrames::make_result(std::size_t i, FrameHeader head) {
  const Stopwatch stopwatch(outcome_.costs.result);
  const bool is_there = values_.travels_raw(i) && !is_added_by_encoding(i); // the sum is the result
  std::optional<Target> output;
  if (!is_there)
    output = {values_.output(i), plan().dtype, /*accumulate=*/false};
  make(i, head, slice(i).layout, total(i), output);
  if (values_.call().sample == slice(i).id && plan().dtype == DType::fp32 &&
      !values_.travels_raw(i))
    sample_error(i);
  drop_sum(i);
}

void DeviceFrames::store(std::size_t i, Received& frame) {
  const Stopwatch stopwatch(outcome_.costs.decode);
  frame = fetch(std::move(frame));
  decode(i, slice(i).layout, frame, {values_.output(i), plan().dtype, /*accumulate=*/false});
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
  batch_.next(i).tasks.push_back([=, this, values = sums_[i].values] {
    queue().copy_to_host(sum->data, values, bytes);
    queue().copy_to_host(decoded->data, values_.output(i), bytes);
    after_all([=, this] {
      outcome_.add_sample(reinterpret_cast<const float*>(sum->data),
                          reinterpret_cast<const float*>(decoded->data), count);
    });
  });
}

// An exact partial sum leaves nothing behind, but for what a held segment keeps.
void DeviceFrames::settle_residuals(std::size_t i) {
  batch_.next(i).tasks.push_back([this, parts = values_.settled(i)] {
    for (const SliceValues::Settled& part : parts) {
      if (part.from == nullptr)
        queue().zero(part.to, part.bytes);
      else
        queue().copy(part.to, part.from, part.bytes);
    }
  });
}

} // namespace thinwire
