// Frames that peers of the same host read where they lie, in the memory of this rank's device, and
// this rank in theirs. A window is offered to a peer with the first frame for it, and used once the
// peer has opened it; until then, and where it cannot, frames travel over the host. Used by the
// progress thread.
#pragma once

#include "ring/own_window.hpp"
#include "ring/peer_windows.hpp"
#include "ring/window_message.hpp"

#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace thinwire {

struct WindowStats {
  // "open": the peer reads the frames of this rank's device where they lie. "refused": it cannot,
  // for that reason. Empty: there was no such frame, or the peer has no device.
  std::string state = {}, reason = {};
  std::uint64_t frames = 0, bytes = 0; // that were sent so, headers included
};

class Windows {
public:
  // Windows of so many bytes, or, of none, no windows.
  Windows(Wires& wires, std::size_t bytes) : wires_(wires), theirs_(wires), bytes_(bytes) {}

  // Operations of this rank have values on this device.
  void use(const std::shared_ptr<Device>& device);

  // Room for a frame to these peers, in the device's memory. Empty where one of them does not read
  // it, or where all of it is in use. `in_use` counts what was taken and not read yet.
  BlockRef take(const std::shared_ptr<Device>& device, std::span<const int> peers,
                std::size_t payload_bytes, std::shared_ptr<std::size_t> in_use);
  // Whether more should be put there than has to be.
  bool is_roomy(const Device& device) const;
  // Whether the peer reads what this device's memory holds for it.
  bool is_open_to(int peer, const Device& device) const;
  // How much an operation may put there for a peer before the first result is back. The rest has
  // room for the results that go with it.
  std::size_t bytes_ahead() const { return bytes_ / 8 * 3; }
  // The frame whose payload was encoded there.
  Outgoing frame(const Device& device, const FrameHeader& header, BlockRef place);
  // Before it is sent to a peer.
  void note(int peer, const Outgoing& frame);

  // What comes from a peer that shares memory with this rank. Throws CorruptFrame.
  void hear(int peer, const AboutWindow& message);
  Received hold(Received frame) { return theirs_.hold(std::move(frame)); }
  Received bring(Received held, const std::shared_ptr<Device>& device) {
    return theirs_.bring(std::move(held), device);
  }
  const std::byte* frame_of(const Received& held, const std::shared_ptr<Device>& device) {
    return theirs_.frame(held, device);
  }

  void left(int peer) { theirs_.end(peer); }
  void gone(int peer);
  // Says again what no peer has answered yet: it may have been thrown away before it left.
  void offer_again();
  // Nothing is read any more, and the owners hear of it.
  void stop_reading() { theirs_.end_all(); }
  bool may_be_read_by(int peer) const;
  void progress() { theirs_.progress(); }
  void end() noexcept; // of all windows

  WindowStats stats(int peer) const;

private:
  bool can_read(int peer) const { return wires_.is_local(peer) && !gone_.contains(peer); }
  void tell_of(const OwnWindow& window, int peer);
  OwnWindow* find(const Device& device) const;
  OwnWindow* make(const std::shared_ptr<Device>& device);

  Wires& wires_;
  PeerWindows theirs_;
  const std::size_t bytes_;
  std::vector<std::unique_ptr<OwnWindow>> own_; // by number
  std::string failure_;                         // why there is none
  std::set<int> gone_;
  std::vector<WindowStats> sent_; // by peer: the numbers
};

// As if the payload were in the frame: its header, and its bytes.
FrameHeader whole_header(const FrameHeader& header, const std::byte* payload);

} // namespace thinwire
