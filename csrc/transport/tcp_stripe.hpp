// One socket of a TcpLink: what is written to it and read from it, and when it can be.
#pragma once

#include "transport/frame_reader.hpp"
#include "transport/frame_writer.hpp"
#include "transport/tcp_link.hpp"

namespace thinwire {

class TcpLink::Stripe final : public Pollable {
public:
  Stripe(int peer, FrameSink& sink, BlockPool& pool, Poller& poller, Channel channel);
  ~Stripe();

  // Writes a batch, the one under way or the next of the queue. Returns the bytes taken.
  std::size_t write(FrameQueue& queue);
  FrameReader::Turn read();
  // Whether write() would move something, where frames wait in the queue or where none do.
  bool can_write(bool has_queued) const { return !blocked_ && (has_queued || !writer_.is_idle()); }
  bool is_stopped() const { return stopped_; }
  void detach() {
    writer_.detach();
    reader_.detach();
  }
  // Says goodbye to the peer. Nothing is written or read any more, nor its memory referred to.
  void stop();

  std::uint64_t sent_frames() const { return writer_.frames(); }
  std::uint64_t received_frames() const { return reader_.frames(); }
  int fd() const { return channel_.fd.get(); }
  void ready(std::uint32_t epoll_events) override;

private:
  void update_interest();

  Poller& poller_;
  Channel channel_;
  FrameWriter writer_;
  FrameReader reader_;
  bool readable_ = true; // bytes may have come before anyone looked
  bool blocked_ = false;
  bool stopped_ = false;
  std::uint32_t interest_;
};

} // namespace thinwire
