#include "pool/process.hpp"

#include "pool/core.hpp"

#include <algorithm>
#include <pthread.h>

namespace thinwire::pool {
namespace {

constinit std::atomic<unsigned> forks = 0;
constinit std::atomic<Cores*> cores = nullptr;
constinit std::atomic<std::uint64_t> threads = 0;

// In a child, whatever another thread of the parent held stays locked for ever. So the child uses
// nothing of it.
void begin_child() {
  ++forks;
  cores = new Cores;
}

constinit thread_local bool ended = false;

struct ThreadEnd {
  const std::uint64_t thread = ++threads;

  ~ThreadEnd() {
    ended = true;
    std::fill(std::begin(recent_caches), std::end(recent_caches), Recent{});
    Cores::get().thread_ends(thread);
  }
};

} // namespace

constinit thread_local Recent recent_caches[kRecent] = {};

unsigned generation() { return forks.load(std::memory_order_relaxed); }

std::uint64_t this_thread() {
  if (ended)
    return 0;
  static thread_local ThreadEnd end;
  return end.thread;
}

// Never destroyed: threads may end after everything else.
Cores& Cores::get() {
  Cores* current = cores.load(std::memory_order_acquire);
  if (current)
    return *current;
  auto* fresh = new Cores;
  if (cores.compare_exchange_strong(current, fresh)) {
    pthread_atfork(nullptr, nullptr, &begin_child);
    return *fresh;
  }
  delete fresh;
  return *current;
}

void Cores::add(Core& core) {
  const std::lock_guard lock(mutex_);
  all_.push_back(&core);
}

void Cores::remove(Core& core) {
  const std::lock_guard lock(mutex_);
  std::erase(all_, &core);
}

void Cores::thread_ends(std::uint64_t thread) {
  const std::lock_guard lock(mutex_);
  for (Core* core : all_)
    core->thread_ends(thread);
}

} // namespace thinwire::pool
