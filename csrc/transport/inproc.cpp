#include "transport/inproc.hpp"

#include <array>
#include <atomic>
#include <map>
#include <mutex>

namespace thinwire {
namespace {

std::mutex registry_mutex;

} // namespace

struct InprocSide::Pair {
  std::shared_ptr<SharedSegment> segment; // from `wanted` on
  std::array<std::shared_ptr<const Descriptor>, 2> wakers;
  std::array<std::atomic<bool>, 2> came{}, left{};
  std::atomic<bool> wanted = false;

  void wake(std::size_t side) const {
    if (came[side])
      Waker::wake(wakers[side]->get());
  }
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
  pair_->wakers[side_] = waker.descriptor();
  pair_->came[side_] = true;
  if (pair_->came[1 - side_]) {
    registry().erase(key); // both have it
    pair_->wake(1 - side_);
  }
}

InprocSide::~InprocSide() {
  const std::lock_guard lock(registry_mutex);
  pair_->left[side_] = true;
  if (pair_->came[1 - side_])
    pair_->wake(1 - side_);
  else
    registry().erase(key_);
}

void InprocSide::want() {
  const std::lock_guard lock(registry_mutex);
  if (pair_->wanted)
    return;
  pair_->segment = SharedSegment::in_pool();
  pair_->wanted = true;
  pair_->wake(1 - side_);
}

bool InprocSide::is_wanted() const { return pair_->wanted; }

std::unique_ptr<ShmLink> InprocSide::take_link(int peer, FrameSink& sink) {
  if (linked_ || !pair_->wanted || !pair_->came[1 - side_])
    return nullptr;
  linked_ = true;
  return std::make_unique<ShmLink>(peer, sink, pair_->segment, side_ == 1, pair_->wakers[1 - side_],
                                   "inproc");
}

bool InprocSide::has_hung_up() const { return pair_->left[1 - side_]; }

} // namespace thinwire
