#include "ring/liveness.hpp"

#include <algorithm>

namespace thinwire {

Liveness::Liveness(Clock::duration timeout)
    : interval_(timeout / 10), limit_(timeout * 7 / 10), next_(Clock::now()), last_(next_),
      resumed_(next_) {}

void Liveness::tick(Clock::time_point now) {
  // Far too late: this process was stopped itself, and what the peers said meanwhile is still in
  // the sockets. Their silence counts from now on.
  if (now - last_ > 3 * interval_)
    resumed_ = now;
  last_ = now;
  next_ = now + interval_ / 2;
}

bool Liveness::needs_heartbeat(const Link& link, Clock::time_point now) const {
  return link.backlog() == 0 && now - link.last_sent() >= interval_;
}

bool Liveness::is_silent(const Link& link, Clock::time_point now) const {
  return now - std::max(link.last_received(), resumed_) > limit_;
}

} // namespace thinwire
