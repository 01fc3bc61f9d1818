#include "transport/race.hpp"

#include "core/error.hpp"
#include "transport/sockets.hpp"
#include "transport/system.hpp"

#include <algorithm>

namespace thinwire {
namespace {

using std::chrono::milliseconds;

constexpr auto kStagger = milliseconds(100); // for a route to answer before the next is tried
constexpr auto kFirstPause = milliseconds(20), kLongestPause = milliseconds(1000);

} // namespace

Dialer::Race::Race(Poller& poller, const DialTerms& terms, std::size_t stripe,
                   std::vector<Route> routes)
    : poller_(poller), terms_(terms), stripe_(stripe), routes_(std::move(routes)),
      pause_(kFirstPause) {
  if ((hopeless_ = routes_.empty()))
    failure_ = "it published no address that can be reached from here";
}

Dialer::State Dialer::Race::progress(Clock::time_point now) {
  if (!done_ && !hopeless_ && now >= next_start_)
    start_next(now);
  for (std::size_t i = 0; i < attempts_.size() && !done_ && !hopeless_;) {
    if (!advance(attempts_[i])) {
      attempts_.erase(attempts_.begin() + static_cast<std::ptrdiff_t>(i));
      next_start_ = next_route_ != 0 ? now : std::min(next_start_, now + pause_);
    } else if (attempts_[i].greeting->handshake().has_heard()) {
      keep_only(i); // the right rank: from here on there is one attempt
      i = attempts_.size();
    } else {
      ++i;
    }
  }
  return hopeless_ ? State::failed : done_ ? State::done : State::dialing;
}

// Whether the attempt lives on.
bool Dialer::Race::advance(Attempt& attempt) {
  switch (attempt.greeting->advance()) {
  case Handshake::State::running:
    return true;
  case Handshake::State::done:
    return done_ = true;
  case Handshake::State::failed:
    hopeless_ = attempt.greeting->handshake().is_hopeless();
    note(attempt.route, attempt.greeting->failure(), false);
    return false;
  }
  return false;
}

void Dialer::Race::keep_only(std::size_t winner) {
  Attempt kept = std::move(attempts_[winner]);
  attempts_.clear();
  attempts_.push_back(std::move(kept));
  next_start_ = Clock::time_point::max(); // until it fails
}

bool Dialer::Race::is_under_way(std::size_t route) const {
  return std::any_of(attempts_.begin(), attempts_.end(),
                     [&](const Attempt& attempt) { return attempt.route == route; });
}

void Dialer::Race::start_next(Clock::time_point now) {
  const std::size_t route = next_route_;
  next_route_ = (next_route_ + 1) % routes_.size();
  next_start_ = now + kStagger;
  try {
    if (!is_under_way(route))
      start(route);
  } catch (const Error& error) {
    note(route, error.what(), thinwire::is_own_want(error));
    next_start_ = now;
  }
  if (next_route_ == 0) {
    next_start_ = now + pause_;
    pause_ = std::min<Clock::duration>(2 * pause_, kLongestPause);
  }
}

void Dialer::Race::start(std::size_t route) {
  Descriptor socket = start_connecting(routes_[route].to, routes_[route].from);
  const int fd = socket.get();
  auto stream = routes_[route].to.family() == AF_UNIX ? plain_stream(fd) : terms_.stream(fd, false);
  attempts_.push_back(
      {route, std::make_unique<Greeting>(std::move(socket), std::move(stream),
                                         terms_.handshake(stripe_), true, poller_)});
}

void Dialer::Race::note(std::size_t route, const std::string& what, bool own_want) {
  failure_ = "no connection through " + routes_[route].to.text() + ": " + what;
  own_want_ = own_want;
}

Clock::time_point Dialer::Race::next_event() const {
  return done_ ? Clock::time_point::max() : next_start_;
}

} // namespace thinwire
