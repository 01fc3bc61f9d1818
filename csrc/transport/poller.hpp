// Waiting for many descriptors at once (epoll), and for other threads or processes (eventfd).
#pragma once

#include "transport/clock.hpp"
#include "transport/descriptor.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace thinwire {

// Told when its descriptor is ready.
class Pollable {
public:
  virtual void ready(std::uint32_t epoll_events) = 0;

protected:
  ~Pollable() = default;
};

class Waker;
class Alarm;

// Level-triggered. Used by one thread. A Pollable may remove itself, or others, while it is being
// told.
class Poller {
public:
  Poller();
  void add(int fd, std::uint32_t epoll_events, Pollable& pollable);
  void add(Waker& waker);
  void add(Alarm& alarm);
  void change(int fd, std::uint32_t epoll_events, Pollable& pollable);
  void remove(int fd, Pollable& pollable);
  // Waits until a descriptor is ready or `until`, and tells the Pollables. Returns how many were
  // told. A time in the past looks without waiting.
  int wait(Clock::time_point until);

private:
  Descriptor epoll_;
  std::vector<Pollable*> told_; // of the wait() under way; null where removed meanwhile
};

// Makes another thread's, or another process's, Poller::wait return.
class Waker final : public Pollable {
public:
  Waker();
  static void wake(int fd); // by the descriptor alone, from anywhere
  void wake() const { wake(fd()); }
  int fd() const { return descriptor_->get(); }
  // For those in this process who may wake it even when it is gone, which then does nothing.
  std::shared_ptr<const Descriptor> descriptor() const { return descriptor_; }
  void ready(std::uint32_t epoll_events) override; // takes the wake-up back

private:
  std::shared_ptr<const Descriptor> descriptor_;
};

// Makes Poller::wait return after a time too short for its own clock.
class Alarm final : public Pollable {
public:
  Alarm();
  void set(Clock::duration after); // above 0; in place of what was set before
  int fd() const { return fd_.get(); }
  void ready(std::uint32_t epoll_events) override;

private:
  Descriptor fd_;
};

} // namespace thinwire
