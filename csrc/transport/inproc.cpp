#include "transport/inproc.hpp"

#include "transport/system.hpp"

#include <array>
#include <atomic>
#include <fcntl.h>
#include <map>
#include <mutex>

namespace thinwire {
namespace {

std::mutex registry_mutex;

Descriptor duplicate(int fd) {
  Descriptor copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy)
    system_call_failed("duplicating a descriptor");
  return copy;
}

} // namespace

struct InprocSide::Pair {
  std::shared_ptr<SharedSegment> segment = SharedSegment::in_pool();
  std::array<Descriptor, 2> wakers;
  std::array<std::atomic<bool>, 2> came{}, left{};
};

// Pairs of which one side has come.
std::map<InprocKey, std::shared_ptr<InprocSide::Pair>>& InprocSide::registry() {
  static std::map<InprocKey, std::shared_ptr<Pair>> pairs;
  return pairs;
}

InprocSide::InprocSide(const InprocKey& key, bool is_high, const Waker& waker)
    : key_(key), side_(is_high) {
  const std::lock_guard lock(registry_mutex);
  std::shared_ptr<Pair>& known = registry()[key];
  if (!known)
    known = std::make_shared<Pair>();
  pair_ = known;
  pair_->wakers[side_] = duplicate(waker.fd());
  pair_->came[side_] = true;
  if (pair_->came[1 - side_]) {
    registry().erase(key); // both have it
    Waker::wake(pair_->wakers[1 - side_].get());
  }
}

InprocSide::~InprocSide() {
  const std::lock_guard lock(registry_mutex);
  pair_->left[side_] = true;
  if (pair_->came[1 - side_])
    Waker::wake(pair_->wakers[1 - side_].get());
  else
    registry().erase(key_);
}

std::unique_ptr<ShmLink> InprocSide::take_link(int peer, FrameSink& sink) {
  if (linked_ || !pair_->came[1 - side_])
    return nullptr;
  linked_ = true;
  return std::make_unique<ShmLink>(peer, sink, pair_->segment, side_ == 1,
                                   duplicate(pair_->wakers[1 - side_].get()), "inproc");
}

bool InprocSide::has_hung_up() const { return pair_->left[1 - side_]; }

} // namespace thinwire
