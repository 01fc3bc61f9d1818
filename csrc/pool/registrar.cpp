#include "pool/registrar.hpp"

#include <chrono>
#include <system_error>

namespace thinwire::pool {

void Registrar::add(Region& region) {
  const std::lock_guard lock(mutex_);
  if (is_over_)
    return;
  todo_.push_back(&region);
  if (running_)
    return;
  try {
    std::thread([this] { run(); }).detach(); // settle() waits for it
    running_ = true;
  } catch (const std::system_error&) {
    // No thread to be had: the next region tries again.
  }
}

void Registrar::settle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return !running_; });
}

void Registrar::end() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
    todo_.clear();
  }
  settle();
}

double Registrar::seconds() const {
  const std::lock_guard lock(mutex_);
  return seconds_;
}

void Registrar::run() {
  driver_.choose_device();
  std::unique_lock lock(mutex_);
  while (!todo_.empty()) {
    Region& region = *todo_.front();
    todo_.pop_front();
    lock.unlock();
    const auto begun = std::chrono::steady_clock::now();
    const std::string failure = driver_.pin(region.begin(), region.bytes(), /*is_read_only=*/false);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
    done_(region, failure);
    std::this_thread::yield();
    lock.lock();
    seconds_ += taken.count();
  }
  running_ = false;
  idle_.notify_all();
}

} // namespace thinwire::pool
