// A link from the moment it is asked for: until it is connected, frames wait here.
#pragma once

#include "transport/frame_queue.hpp"
#include "transport/link.hpp"

#include <memory>

namespace thinwire {

class LinkSlot final : public Link {
public:
  LinkSlot(int peer, FrameSink& sink) : Link(peer), sink_(sink), opened_(Clock::now()) {}

  void connect(std::unique_ptr<Link> link);
  bool is_connected() const { return link_ != nullptr; }

  void send(Outgoing frame) override;
  bool progress() override;
  std::size_t backlog() const override { return link_ ? link_->backlog() : backlog_; }
  void detach() override;
  Clock::time_point last_received() const override {
    return link_ ? link_->last_received() : opened_;
  }
  Clock::time_point last_sent() const override { return link_ ? link_->last_sent() : opened_; }
  Clock::time_point next_event() const override {
    return link_ ? link_->next_event() : Clock::time_point::max();
  }
  LinkStats stats() const override;

private:
  FrameSink& sink_;
  Clock::time_point opened_;
  FrameQueue queue_;
  std::size_t backlog_ = 0;
  std::unique_ptr<Link> link_;
};

} // namespace thinwire
