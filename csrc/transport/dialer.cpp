#include "transport/dialer.hpp"

#include "transport/race.hpp"

#include <algorithm>

namespace thinwire {

Dialer::Dialer(Poller& poller, DialTerms terms)
    : poller_(poller), terms_(std::move(terms)), deadline_(Clock::now() + terms_.timeout) {
  start_races();
}

Dialer::~Dialer() = default;

void Dialer::start_races() {
  const std::size_t stripes = terms_.same_way ? 1 : terms_.stripes;
  for (std::size_t stripe = 0; stripe < stripes; ++stripe)
    start_race(stripe, terms_.routes(stripe));
}

void Dialer::start_race(std::size_t stripe, std::vector<Route> routes) {
  races_.push_back(std::make_unique<Race>(poller_, terms_, stripe, std::move(routes)));
}

Dialer::State Dialer::progress() {
  const auto now = Clock::now();
  bool all_done = true;
  for (const auto& race : races_) {
    const State state = race->progress(now);
    all_done &= state == State::done;
    if (state == State::failed || (state == State::dialing && now >= deadline_)) {
      failure_ = race->failure();
      own_want_ = race->is_own_want();
      return State::failed;
    }
  }
  if (!all_done)
    return State::dialing;
  if (races_.size() == terms_.stripes)
    return State::done;
  const Route winner = races_.front()->winner();
  while (races_.size() < terms_.stripes)
    start_race(races_.size(), {winner});
  return State::dialing;
}

Clock::time_point Dialer::next_event() const {
  auto first = deadline_;
  for (const auto& race : races_)
    first = std::min(first, race->next_event());
  return first;
}

std::string Dialer::failure() const {
  return failure_.empty() ? "it did not answer in time" : failure_;
}

std::vector<Channel> Dialer::take() {
  std::vector<Channel> channels;
  for (const auto& race : races_)
    channels.push_back(race->take());
  return channels;
}

} // namespace thinwire
