// A link made worse: with a rate, a delay, losses, or a cut cable. For tests, which bring their own
// clock and need not wait. What this side sends is shaped; for both directions both sides are
// shaped.
#pragma once

#include "transport/link.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>

namespace thinwire {

struct LinkShape {
  double rate = 0;  // bytes a second; 0: unlimited
  double delay = 0; // seconds one way
  double loss = 0;  // the probability that a frame is lost
  double rto = 0.2; // seconds until a lost frame is sent again, which then arrives
  std::uint64_t seed = 0;
  // Frames, both ways together, after which the cable is cut: nothing passes, and nobody is told.
  std::optional<std::uint64_t> cut_after;
};

class ShapedLink final : public Link, private FrameSink {
public:
  using MakeLink = std::function<std::unique_ptr<Link>(FrameSink&)>;
  using Now = std::function<Clock::time_point()>;

  // `make_inner` makes the link to the same peer; what arrives there goes on to `sink` at once.
  // Throws InvalidArgument for a shape that cannot be.
  ShapedLink(int peer, FrameSink& sink, const LinkShape& shape, const MakeLink& make_inner,
             Now now = Clock::now);

  void send(Outgoing frame) override;
  bool progress() override;
  void detach() override;
  std::size_t backlog() const override { return held_bytes_ + inner_->backlog(); }
  Clock::time_point last_received() const override;
  Clock::time_point last_sent() const override;
  Clock::time_point next_event() const override;
  LinkStats stats() const override;

  void cut(); // the cable, now

private:
  struct Silence { // since the cable was cut
    Clock::time_point last_received, last_sent;
  };

  std::byte* place(int peer, const FrameHeader& header) override;
  void receive(Received frame) override;
  void lost(int peer, const std::string& reason) override;
  bool is_lost();
  void count_frame();

  FrameSink& sink_;
  const LinkShape shape_;
  const Now now_;
  std::unique_ptr<Link> inner_;
  std::mt19937_64 random_;
  std::multimap<Clock::time_point, Outgoing> held_; // by when they are due
  std::size_t held_bytes_ = 0;
  Clock::time_point line_free_; // when the line has taken all that was sent
  double line_seconds_ = 0;     // it took for the frames that have gone on
  std::uint64_t frames_ = 0, losses_ = 0;
  std::optional<Silence> silence_;
};

} // namespace thinwire
