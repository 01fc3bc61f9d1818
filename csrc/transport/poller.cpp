#include "transport/poller.hpp"

#include "transport/system.hpp"

#include <algorithm>
#include <array>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace thinwire {
namespace {

Descriptor checked(int fd, const char* what) {
  if (fd < 0)
    system_call_failed(what);
  return Descriptor(fd);
}

} // namespace

Poller::Poller() : epoll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {}

void Poller::add(int fd, std::uint32_t events, Pollable& pollable) {
  epoll_event event{.events = events, .data = {.ptr = &pollable}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    system_call_failed("epoll_ctl");
}

void Poller::add(Waker& waker) { add(waker.fd(), EPOLLIN, waker); }
void Poller::add(Alarm& alarm) { add(alarm.fd(), EPOLLIN, alarm); }

void Poller::change(int fd, std::uint32_t events, Pollable& pollable) {
  epoll_event event{.events = events, .data = {.ptr = &pollable}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Poller::remove(int fd, Pollable& pollable) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  std::replace(told_.begin(), told_.end(), &pollable, static_cast<Pollable*>(nullptr));
}

int Poller::wait(Clock::time_point until) {
  using namespace std::chrono;
  std::array<epoll_event, 64> events;
  const Clock::time_point now = Clock::now();
  // Compared before it is subtracted: `until` may be the end of time.
  const nanoseconds bounded = until <= now             ? nanoseconds(0)
                              : until > now + hours(1) ? nanoseconds(hours(1))
                                                       : until - now;
  // In milliseconds, rounded up: epoll_pwait2 would be finer, but older kernels lack it.
  const int timeout = static_cast<int>(ceil<milliseconds>(bounded).count());
  const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), timeout);
  if (count <= 0)
    return 0; // nothing, or a signal
  told_.clear();
  for (int i = 0; i < count; ++i)
    told_.push_back(static_cast<Pollable*>(events[static_cast<std::size_t>(i)].data.ptr));
  for (int i = 0; i < count; ++i)
    if (Pollable* pollable = told_[static_cast<std::size_t>(i)])
      pollable->ready(events[static_cast<std::size_t>(i)].events);
  return count;
}

Waker::Waker()
    : descriptor_(std::make_shared<const Descriptor>(
          checked(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"))) {}

void Waker::wake(int fd) {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(fd, &one, sizeof one);
}

void Waker::ready(std::uint32_t) {
  std::uint64_t count;
  [[maybe_unused]] const ssize_t done = ::read(fd(), &count, sizeof count);
}

Alarm::Alarm()
    : fd_(checked(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                  "timerfd_create")) {}

void Alarm::set(Clock::duration after) {
  using namespace std::chrono;
  const auto whole = floor<seconds>(after);
  itimerspec time = {};
  time.it_value = {.tv_sec = whole.count(), .tv_nsec = nanoseconds(after - whole).count()};
  ::timerfd_settime(fd_.get(), 0, &time, nullptr);
}

void Alarm::ready(std::uint32_t) {
  std::uint64_t count;
  [[maybe_unused]] const ssize_t done = ::read(fd_.get(), &count, sizeof count);
}

} // namespace thinwire
