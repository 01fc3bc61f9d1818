// Who is alive: heartbeats go out where nothing else does, and silence is noticed.
#pragma once

#include "transport/link.hpp"

namespace thinwire {

class Liveness {
public:
  // A peer silent for `timeout` is lost; it is noticed early enough to tell the others in time.
  explicit Liveness(Clock::duration timeout);

  // When `needs_heartbeat` and `is_silent` should be asked again. Call `tick` then.
  Clock::time_point next_tick() const { return next_; }
  void tick(Clock::time_point now);

  bool needs_heartbeat(const Link& link, Clock::time_point now) const;
  bool is_silent(const Link& link, Clock::time_point now) const;

private:
  Clock::duration interval_, limit_;
  Clock::time_point next_, last_, resumed_;
};

} // namespace thinwire
