#include "ring/operation.hpp"

#include <algorithm>
#include <iterator>

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

void Outcome::add_sample(const float* sum, const float* decoded, std::size_t count) {
  for (std::size_t k = 0; k < count; ++k) {
    const double wanted = sum[k], lost = wanted - decoded[k];
    sampled_error += lost * lost;
    sampled_total += wanted * wanted;
  }
}

Operation::Operation(OperationKey key, std::uint32_t plan_id, std::string description,
                     Clock::duration deadline)
    : key(key), plan_id(plan_id), description(std::move(description)), submitted(Clock::now()),
      deadline(submitted + deadline), last_heard_(submitted) {}

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

void Operation::heard_from(int peer, int culprit, Clock::time_point when) {
  heard_.insert(peer);
  waits_[culprit] += when - last_heard_;
  last_heard_ = when;
}

std::vector<int> Operation::late() const {
  const std::vector<int> found = awaited();
  std::vector<int> silent;
  std::copy_if(found.begin(), found.end(), std::back_inserter(silent),
               [this](int peer) { return !heard_.contains(peer); });
  return silent.empty() ? found : silent;
}

} // namespace thinwire
