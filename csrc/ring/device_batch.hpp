// Work on slices that waits to be given to a device together. What one slice asks for is done in
// that order; what several ask for is done side by side, by the same launches.
#pragma once

#include "ring/device.hpp"
#include "ring/slice_values.hpp"
#include "transport/block.hpp"
#include "wire/frame.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

namespace thinwire {

// A frame that is encoded. Unless its place is in a window it comes to `block`, on the host. That
// has at `count` the number of blocks that were not finite; frames in windows share one.
struct FrameInMaking {
  Encoding encoding;
  std::size_t slice;
  FrameHeader header;
  BlockRef place, block = {};
  std::size_t count = 0;
};

class DeviceBatch {
public:
  // What does not depend on each other.
  struct Stage {
    std::vector<Folding> folds;
    std::vector<Decoding> decodes;
    std::vector<FrameInMaking> encodes;
    std::vector<std::function<void()>> tasks; // which give other work to the device
  };

  // The stage of what a slice asks for next.
  Stage& next(std::size_t slice) {
    depths_.resize(std::max(depths_.size(), slice + 1));
    const std::size_t depth = depths_[slice]++;
    stages_.resize(std::max(stages_.size(), depth + 1));
    return stages_[depth];
  }

  // Keeps what the work refers to until it was given to the device.
  const FrameValues& keep(Encodable values) { return values_.emplace_back(std::move(values)).view; }
  const Layout& keep(Layout layout) { return layouts_.emplace_back(std::move(layout)); }
  std::byte* keep(DeviceMemory memory) { return memory_.emplace_back(std::move(memory)).get(); }

  void clear() { // takes no memory, unlike an empty batch
    stages_.clear();
    depths_.clear();
    values_.clear();
    layouts_.clear();
    memory_.clear();
  }
  bool is_empty() const { return stages_.empty() && memory_.empty(); }
  std::vector<Stage>& stages() { return stages_; }

private:
  std::vector<Stage> stages_;
  std::vector<std::size_t> depths_; // by slice
  std::deque<Encodable> values_;
  std::deque<Layout> layouts_;
  std::deque<DeviceMemory> memory_;
};

} // namespace thinwire
