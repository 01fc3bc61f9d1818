// Frames of values in the memory of a device. What is asked for between two calls of flush() is
// queued there together; frames are whole, and memory of the host is free again, when a mark behind
// the work has passed. Nothing but encoded values crosses between the two, a sample of a sum apart;
// not even these where all to whom a frame goes read it in this device's window.
#pragma once

#include "ring/device_batch.hpp"
#include "ring/tree_frames.hpp"

#include <deque>
#include <functional>
#include <optional>
#include <vector>

namespace thinwire {

class DeviceFrames final : public TreeFrames {
public:
  // Values that are added up; sums travel up and results down.
  DeviceFrames(SliceValues values, Outcome& outcome, FrameTaker& taker)
      : TreeFrames(std::move(values), outcome, taker), where_(*values_.call().where),
        device_(*where_.device), sums_(plan().slices.size()) {}

  bool is_ready(Wires& wires) override;
  void make_own(std::size_t i, FrameHeader head) override;
  void add(std::size_t i, Received frame) override;
  void make_partial(std::size_t i, FrameHeader head) override;
  void make_result(std::size_t i, FrameHeader head) override;
  void drop_sum(std::size_t i) override;
  void store(std::size_t i, Received& frame) override;
  void forward(std::size_t i, Received frame) override;
  bool has_room() const override;
  std::size_t bytes_ahead(std::size_t i) const override;
  void advance() override;
  void flush() override;
  std::size_t bytes_in_making() const override { return in_making_; }
  bool is_settled() const override { return under_way_.empty() && batch_.is_empty(); }
  bool awaits_device() const override { return !under_way_.empty(); }
  void release() override;

private:
  struct Sum {
    float* values = nullptr;                 // null: not begun
    std::optional<DeviceMemory> memory = {}; // empty: they lie in the output
    const std::byte* addend = nullptr; // instead: what encoding adds to this rank's own values
  };
  struct Work {
    Device::Mark mark;
    std::function<void()> then;
    std::vector<BlockRef> refers_to = {}; // besides what `then` has
  };
  struct Target {
    void* out;
    DType dtype;
    bool accumulate;
  };

  Device& queue();                  // for work
  BlockRef take(std::size_t bytes); // for the queue to write to
  BlockRef take_place(std::size_t i, std::uint8_t phase, std::size_t payload_bytes);
  void after_all(std::function<void()> then);
  void look_for_zeros();
  float* sum(std::size_t i);
  float* begin_sum(std::size_t i);
  bool is_added_by_encoding(std::size_t i) const;
  Encodable total(std::size_t i);
  void make(std::size_t i, FrameHeader head, const Layout& layout, Encodable values,
            const std::optional<Target>& result);
  void fold(std::span<const Folding> sums);
  void decode(std::span<const Decoding> frames);
  void encode(std::span<FrameInMaking> frames);
  void finish(const FrameInMaking& frame);
  Received fetch(Received frame);
  void decode(std::size_t i, const Layout& layout, const Received& held, const Target& target);
  const std::byte* on_device(const Layout& layout, const Received& held);
  void sample_error(std::size_t i);
  void settle_residuals(std::size_t i);

  const OnDevice& where_;
  Device& device_;
  DeviceBatch batch_;
  bool has_unmarked_ = false;      // work was queued after the last mark
  std::vector<BlockRef> unmarked_; // what the batch and that work refer to
  std::deque<Work> under_way_;
  std::size_t in_making_ = 0; // bytes of frames for the host
  // Frames of this operation that lie in the device's window.
  std::shared_ptr<std::size_t> in_window_ = std::make_shared<std::size_t>(0);
  std::vector<Sum> sums_;
  bool is_watched_ = false; // zeros were looked for
};

} // namespace thinwire
