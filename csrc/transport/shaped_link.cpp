#include "transport/shaped_link.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace thinwire {
namespace {

double line_seconds(const LinkShape& shape, const Outgoing& frame) {
  return shape.rate > 0 ? static_cast<double>(frame_bytes(frame.header)) / shape.rate : 0;
}

const LinkShape& checked(const LinkShape& shape) {
  constexpr double kMostSeconds = 3600;
  const auto lies_in = [](double value, double least, double most) {
    return value >= least && value <= most; // which NaN does not
  };
  if (shape.rate != 0 && !(shape.rate >= 1))
    throw InvalidArgument("a link's rate is 0 (unlimited) or at least 1 byte a second");
  if (!lies_in(shape.delay, 0, kMostSeconds) || !lies_in(shape.rto, 0, kMostSeconds))
    throw InvalidArgument("a link's delay and rto are 0 to 3600 seconds");
  if (!lies_in(shape.loss, 0, 1))
    throw InvalidArgument("a link's loss is a probability: 0 to 1, not " +
                          std::to_string(shape.loss));
  return shape;
}

} // namespace

ShapedLink::ShapedLink(int peer, FrameSink& sink, const LinkShape& shape,
                       const MakeLink& make_inner, Now now)
    : Link(peer), sink_(sink), shape_(checked(shape)), now_(std::move(now)),
      inner_(make_inner(*this)), random_(shape.seed), line_free_(now_()) {
  if (shape_.cut_after == 0)
    cut();
}

bool ShapedLink::is_lost() {
  const double drawn = static_cast<double>(random_() >> 11) * 0x1p-53; // 0 up to 1
  return drawn < shape_.loss;
}

void ShapedLink::send(Outgoing frame) {
  line_free_ = std::max(line_free_, now_()) + to_duration(line_seconds(shape_, frame));
  Clock::time_point due = line_free_ + to_duration(shape_.delay);
  if (is_lost()) {
    due += to_duration(shape_.rto);
    ++losses_;
  }
  held_bytes_ += frame_bytes(frame.header);
  held_.emplace(due, std::move(frame));
}

bool ShapedLink::progress() {
  bool moved = false;
  const Clock::time_point now = now_();
  while (!silence_ && !held_.empty() && held_.begin()->first <= now) {
    Outgoing frame = std::move(held_.extract(held_.begin()).mapped());
    held_bytes_ -= frame_bytes(frame.header);
    line_seconds_ += line_seconds(shape_, frame);
    inner_->send(std::move(frame));
    count_frame();
    moved = true;
  }
  return inner_->progress() || moved;
}

void ShapedLink::count_frame() {
  ++frames_;
  if (frames_ == shape_.cut_after)
    cut();
}

void ShapedLink::cut() {
  if (!silence_)
    silence_ = Silence{inner_->last_received(), inner_->last_sent()};
}

// Behind the cut the inner link goes on by itself; nothing of that may be seen.

void ShapedLink::detach() {
  held_.clear();
  held_bytes_ = 0;
  inner_->detach();
}

Clock::time_point ShapedLink::last_received() const {
  return silence_ ? silence_->last_received : inner_->last_received();
}

Clock::time_point ShapedLink::last_sent() const {
  return silence_ ? silence_->last_sent : inner_->last_sent();
}

Clock::time_point ShapedLink::next_event() const {
  const Clock::time_point inner = inner_->next_event();
  return silence_ || held_.empty() ? inner : std::min(inner, held_.begin()->first);
}

LinkStats ShapedLink::stats() const {
  LinkStats stats = inner_->stats();
  stats.kind = "shaped " + stats.kind;
  stats.retransmits += losses_;
  stats.rtt_seconds += 2 * shape_.delay; // the peer is thought to be shaped alike
  stats.busy_seconds = std::max(stats.busy_seconds, line_seconds_);
  return stats;
}

std::byte* ShapedLink::place(int peer, const FrameHeader& header) {
  return silence_ ? nullptr : sink_.place(peer, header);
}

void ShapedLink::receive(Received frame) {
  if (silence_)
    return;
  count_frame();
  sink_.receive(std::move(frame));
}

void ShapedLink::lost(int peer, const std::string& reason) {
  if (!silence_)
    sink_.lost(peer, reason);
}

} // namespace thinwire
