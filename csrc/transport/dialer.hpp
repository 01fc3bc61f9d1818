// Connects to one peer: one race a stripe, over all the addresses at which the peer may be.
#pragma once

#include "transport/greeting.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace thinwire {

// A way to the peer: where it may listen, and the local address to come from (empty: any).
struct Route {
  Endpoint to, from;
};

struct DialTerms {
  std::size_t stripes;
  // The ways for a stripe, the likeliest first.
  std::function<std::vector<Route>(std::size_t stripe)> routes;
  bool same_way; // the other stripes go where the first one got through
  std::function<Handshake(std::size_t stripe)> handshake;
  StreamMaker stream;
  Clock::duration timeout;
};

class Dialer {
public:
  enum class State { dialing, done, failed };

  Dialer(Poller& poller, DialTerms terms);
  ~Dialer();

  State progress();
  Clock::time_point next_event() const;
  std::string failure() const;                   // once failed
  bool is_own_want() const { return own_want_; } // what failed: see system.hpp
  std::vector<Channel> take();                   // once done, by stripe

private:
  class Race;

  void start_races();
  void start_race(std::size_t stripe, std::vector<Route> routes);

  Poller& poller_;
  DialTerms terms_;
  Clock::time_point deadline_;
  std::vector<std::unique_ptr<Race>> races_;
  std::string failure_;
  bool own_want_ = false;
};

} // namespace thinwire
