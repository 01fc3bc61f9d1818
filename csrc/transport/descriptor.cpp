#include "transport/descriptor.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <pthread.h>
#include <unistd.h>

namespace thinwire {
namespace {

// Which descriptors are owned. No lock: the child of a fork may find one held for ever. Numbers
// beyond it stay open in children, which costs nothing but a slower loss detection.
constexpr std::size_t kMost = 65536;
std::array<std::atomic<bool>, kMost> owned;

std::atomic<bool>* mark(int fd) {
  return fd >= 0 && static_cast<std::size_t>(fd) < kMost ? &owned[static_cast<std::size_t>(fd)]
                                                         : nullptr;
}

void close_all_in_child() {
  for (std::size_t fd = 0; fd < kMost; ++fd)
    if (owned[fd].load(std::memory_order_relaxed) && owned[fd].exchange(false))
      ::close(static_cast<int>(fd));
}

} // namespace

Descriptor::Descriptor(int fd) : fd_(fd) {
  static std::once_flag registered;
  std::call_once(registered, [] { ::pthread_atfork(nullptr, nullptr, close_all_in_child); });
  if (auto* flag = mark(fd_))
    flag->store(true);
}

Descriptor::~Descriptor() {
  if (fd_ < 0)
    return;
  if (auto* flag = mark(fd_))
    flag->store(false);
  ::close(fd_);
}

} // namespace thinwire
