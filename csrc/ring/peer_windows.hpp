// Windows of other ranks, as this rank's devices have opened them. They are closed when their owner
// leaves and the last frame has been read.
#pragma once

#include "ring/device.hpp"
#include "ring/operation.hpp"
#include "wire/window.hpp"

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace thinwire {

class PeerWindows final : private BlockOwner {
public:
  explicit PeerWindows(Wires& wires) : wires_(wires) {}

  // A device of this rank's: it opens what was, and will be, offered.
  void use(const std::shared_ptr<Device>& device);
  // Throws CorruptFrame for an offer that makes no sense.
  void offered(int peer, std::uint32_t number, std::uint64_t bytes, const std::string& handle);

  // The frame, which lies in a window: its owner hears of the end of the last reference. Throws
  // CorruptFrame where it cannot lie there.
  Received hold(Received frame);
  // The frame, which is held, where that device can read it: in its window, or, if the device
  // cannot open that, on the host, where another device of this rank's brings it.
  Received bring(Received held, const std::shared_ptr<Device>& device);
  // Where a frame that was brought lies in its window.
  const std::byte* frame(const Received& held, const std::shared_ptr<Device>& device);

  // The peer leaves, or is gone.
  void end(int peer);
  // All of them at once: nothing is read any more.
  void end_all();
  // Tells owners what was read.
  void progress();

private:
  using Name = std::pair<int, std::uint32_t>; // peer, and its number of the window
  struct Opened {
    std::shared_ptr<Device> device;
    const std::byte* memory; // null: it cannot
  };
  struct Window {
    std::uint64_t bytes;
    std::string handle;
    std::vector<Opened> opened = {}; // the first one can
    std::size_t reading = 0;         // frames
    bool is_ending = false;
  };
  struct Reading : Block {
    explicit Reading(BlockOwner& owner) : Block(owner) {}
    Name name;
    WindowPlace place;
  };

  void reclaim(Block& block) override;
  void answer(const Name& name, Window& window);
  const std::byte* open(Window& window, const std::shared_ptr<Device>& device);
  Reading& spare_reading();

  Wires& wires_;
  std::vector<std::shared_ptr<Device>> devices_;
  std::map<Name, Window> windows_;
  std::deque<Reading> readings_;
  std::vector<Reading*> spare_;
  std::vector<std::pair<Name, std::uint64_t>> read_; // offsets that their owners do not know of yet
  bool is_over_ = false;
};

} // namespace thinwire
