// A link over one or several sockets. They share one queue: each takes the next whole frame when it
// can be written to, so that a slow path delays only the frames it carries.
#pragma once

#include "transport/frame_queue.hpp"
#include "transport/frame_tag.hpp"
#include "transport/link.hpp"
#include "transport/poller.hpp"
#include "transport/stream.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace thinwire {

// A socket whose two ends know each other.
struct Channel {
  Descriptor fd;
  std::unique_ptr<Stream> stream;
  std::optional<SessionKeys> keys; // frames carry tags
};

class TcpLink final : public Link {
public:
  TcpLink(int peer, FrameSink& sink, BlockPool& pool, Poller& poller,
          std::vector<Channel> channels);
  ~TcpLink() override;

  void send(Outgoing frame) override;
  bool progress() override;
  std::size_t backlog() const override { return backlog_; }
  Clock::time_point last_received() const override { return last_received_; }
  Clock::time_point last_sent() const override { return last_sent_; }
  void detach() override;
  Clock::time_point next_event() const override;
  LinkStats stats() const override;

private:
  class Stripe;

  bool receive();
  std::size_t read(Stripe& stripe);
  bool flush();
  std::size_t write(Stripe& stripe);
  void count_sent(std::size_t bytes);
  std::size_t tagged_bytes(const FrameHeader& header) const;
  void note_end(const std::string& reason);
  bool has_ended() const { return !end_reason_.empty(); }
  bool has_said_all() const;
  void fail(const std::string& reason);

  FrameSink& sink_;
  std::vector<std::unique_ptr<Stripe>> stripes_;
  FrameQueue queue_;
  std::size_t tag_bytes_ = 0;
  std::size_t backlog_ = 0;
  bool failed_ = false;
  std::string end_reason_;       // a socket has ended: what came before is still read
  Clock::time_point read_until_; // then, at most
  Clock::time_point last_received_, last_sent_, busy_since_;
  LinkStats stats_; // what is counted here; the rest is asked of the kernel
};

} // namespace thinwire
