// Memory of this rank's device that ranks of the same host read. A frame lies there until all to
// whom it was sent have read it.
#pragma once

#include "ring/device.hpp"
#include "transport/block.hpp"
#include "transport/link.hpp"
#include "wire/window.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace thinwire {

class OwnWindow final : private BlockOwner {
public:
  // Throws CudaError where the device's memory cannot be shared.
  OwnWindow(std::shared_ptr<Device> device, std::uint32_t number, std::size_t bytes);

  const Device& device() const { return *device_; }
  std::uint32_t number() const { return number_; }
  std::size_t bytes() const { return bytes_; }
  const std::string& handle() const { return shared_.handle; }

  // Room for a frame, on the device. Empty where there is none. `in_use` counts it until it was
  // read.
  BlockRef take(std::size_t payload_bytes, std::shared_ptr<std::size_t> in_use);
  // Whether there is room for sums, besides what a rank has of its own.
  bool is_roomy() const { return used_ <= bytes_ / 5 * 3; }
  // The frame whose payload was encoded there.
  Outgoing frame(FrameHeader header, BlockRef place);
  void sent(int peer, const WindowPlace& place);

  // What is heard of its readers. Throws CorruptFrame for what cannot be.
  void offered(int peer) { readers_[peer] = Reader::asked; }
  void opened(int peer);
  void refused(int peer, const std::string& reason);
  void released(int peer, std::size_t offset);
  void closed(int peer);

  bool was_offered(int peer) const { return readers_.contains(peer); }
  bool is_open_to(int peer) const;
  bool may_be_read_by(int peer) const;
  std::vector<int> unanswered() const; // whose answer to the offer is missing
  // Why the peer reads nothing of it; empty where it does, or may do so yet.
  std::string refusal(int peer) const;

  // Nothing is sent any more. Memory that somebody may still read stays until the process ends.
  void end();

private:
  enum class Reader { asked, open, refused, closed };
  struct Frame {
    Frame(BlockOwner& owner, std::byte* data, std::size_t bytes, const WindowPlace& place,
          std::shared_ptr<std::size_t> in_use)
        : block(owner, data, bytes), place(place), in_use(std::move(in_use)) {}
    Block block;
    WindowPlace place;
    std::shared_ptr<std::size_t> in_use;
    bool is_held = true;           // by who makes or sends it
    std::vector<int> readers = {}; // that have not answered
  };
  using Frames = std::map<std::size_t, Frame>; // by offset

  void reclaim(Block& block) override;
  std::size_t offset_of(const Block& block) const;
  std::size_t find_room(std::size_t bytes) const; // bytes_ where there is none
  void drop_read(Frames::iterator frame);

  const std::shared_ptr<Device> device_;
  const std::uint32_t number_;
  const std::size_t bytes_;
  SharedMemory shared_;
  Frames frames_;
  std::size_t used_ = 0;
  std::size_t next_ = 0; // behind the frame that was taken last
  std::map<int, Reader> readers_;
  std::map<int, std::string> refusals_;
};

} // namespace thinwire
