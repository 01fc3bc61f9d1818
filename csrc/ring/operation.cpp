#include "ring/operation.hpp"

#include <algorithm>

namespace thinwire {

Costs& Costs::operator+=(const Costs& other) {
  encode += other.encode;
  add += other.add;
  result += other.result;
  decode += other.decode;
  sent_up += other.sent_up;
  sent_down += other.sent_down;
  return *this;
}

Operation::Operation(OperationKey key, std::uint32_t plan_id, std::string description,
                     Clock::duration deadline)
    : key(key), plan_id(plan_id), description(std::move(description)), submitted(Clock::now()),
      deadline(submitted + deadline) {}

bool Operation::wait_for(Clock::duration limit) {
  std::unique_lock lock(mutex_);
  return over_.wait_for(lock, limit, [this] { return is_over_; });
}

bool Operation::is_over() const {
  const std::lock_guard lock(mutex_);
  return is_over_;
}

void Operation::end(std::optional<Failure> failure) {
  {
    const std::lock_guard lock(mutex_);
    if (is_over_)
      return;
    outcome_.failure = std::move(failure);
    is_over_ = true;
  }
  over_.notify_all();
}

void Operation::heard_from(int peer, Clock::time_point when) {
  const auto rank = static_cast<std::size_t>(peer);
  if (heard_.size() <= rank)
    heard_.resize(rank + 1);
  heard_[rank] = when;
}

std::vector<int> Operation::late() const {
  const std::vector<int> found = awaited();
  std::vector<int> silent;
  for (int peer : found) {
    const auto rank = static_cast<std::size_t>(peer);
    if (rank >= heard_.size() || heard_[rank] == Clock::time_point())
      silent.push_back(peer);
  }
  return silent.empty() ? found : silent;
}

} // namespace thinwire
