// Getting one stripe through: the routes are tried a little after one another, side by side, and
// over again after a while, until the right rank answers on one.
#pragma once

#include "transport/dialer.hpp"

namespace thinwire {

class Dialer::Race {
public:
  Race(Poller& poller, const DialTerms& terms, std::size_t stripe, std::vector<Route> routes);

  State progress(Clock::time_point now);
  Clock::time_point next_event() const;
  const Route& winner() const { return routes_[attempts_.front().route]; } // once done
  Channel take() { return attempts_.front().greeting->take(); }
  const std::string& failure() const { return failure_; } // why the last attempt failed
  bool is_own_want() const { return own_want_; }          // and whether that was

private:
  struct Attempt {
    std::size_t route;
    std::unique_ptr<Greeting> greeting;
  };

  void start_next(Clock::time_point now);
  void start(std::size_t route);
  void note(std::size_t route, const std::string& what, bool own_want);
  bool advance(Attempt& attempt);
  void keep_only(std::size_t attempt);
  bool is_under_way(std::size_t route) const;

  Poller& poller_;
  const DialTerms& terms_;
  std::size_t stripe_;
  std::vector<Route> routes_;
  std::vector<Attempt> attempts_;
  std::size_t next_route_ = 0;
  Clock::time_point next_start_{};
  Clock::duration pause_;
  bool done_ = false, hopeless_ = false;
  std::string failure_;
  bool own_want_ = false;
};

} // namespace thinwire
