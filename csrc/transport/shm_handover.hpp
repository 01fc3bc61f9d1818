// Shared memory with a process of the same machine. Over a Unix socket on which the handshake is
// done, the rank that connected hands over the memory and both hand over their wakers. After that
// the socket stays open: its hang-up tells that the peer's process has ended.
#pragma once

#include "transport/shm_link.hpp"
#include "transport/tcp_link.hpp"

#include <memory>

namespace thinwire {

class ShmHandover final : public Pollable {
public:
  ShmHandover(int peer, FrameSink& sink, Poller& poller, const Waker& waker, Channel channel,
              bool connected);
  ~ShmHandover();

  // The link, when both sides have everything; else null. Throws TransportError.
  std::unique_ptr<ShmLink> take_link();
  // The peer's end is closed. What it sent before may still lie in the memory.
  bool has_hung_up() const { return hung_up_; }

  void ready(std::uint32_t epoll_events) override;

private:
  int peer_;
  FrameSink& sink_;
  Poller& poller_;
  const Waker& waker_;
  Channel channel_;
  bool connected_; // this side connected, so it makes the memory
  std::shared_ptr<SharedSegment> segment_;
  bool readable_ = false, linked_ = false, hung_up_ = false;
};

} // namespace thinwire
