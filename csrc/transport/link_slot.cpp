#include "transport/link_slot.hpp"

#include "transport/system.hpp"

namespace thinwire {

void LinkSlot::connect(std::unique_ptr<Link> link) {
  link_ = std::move(link);
  while (!queue_.empty())
    link_->send(queue_.pop());
  backlog_ = 0;
}

void LinkSlot::send(Outgoing frame) {
  if (link_)
    return link_->send(std::move(frame));
  backlog_ += frame_bytes(frame.header);
  queue_.push(std::move(frame));
}

bool LinkSlot::progress() {
  try {
    return link_ && link_->progress();
  } catch (const Error& error) {
    if (is_own_want(error))
      throw;
    sink_.lost(peer(), error.what());
    return false;
  }
}

void LinkSlot::detach() {
  queue_ = {};
  backlog_ = 0;
  if (link_)
    link_->detach();
}

LinkStats LinkSlot::stats() const {
  if (link_)
    return link_->stats();
  LinkStats stats;
  stats.kind = "connecting";
  return stats;
}

} // namespace thinwire
