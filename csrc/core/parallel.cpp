#include "core/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <sched.h>
#include <system_error>
#include <thread>
#include <vector>

namespace thinwire {
namespace {

// Those that taskset, a container or a batch system leaves to this thread; the standard library
// counts all that are online.
unsigned usable_cores() {
  cpu_set_t cores;
  if (::sched_getaffinity(0, sizeof cores, &cores) == 0)
    return static_cast<unsigned>(CPU_COUNT(&cores));
  return std::max(1U, std::thread::hardware_concurrency()); // more than the set has room for
}

class Tasks {
public:
  Tasks(std::size_t count, const std::function<void(std::size_t)>& work)
      : count_(count), work_(work) {}

  void run() noexcept {
    for (std::size_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
      try {
        work_(task);
      } catch (...) {
        next_.store(count_, std::memory_order_relaxed);
        if (!failed_.exchange(true))
          failure_ = std::current_exception();
      }
    }
  }

  void rethrow() const {
    if (failure_)
      std::rethrow_exception(failure_);
  }

private:
  const std::size_t count_;
  const std::function<void(std::size_t)>& work_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::exception_ptr failure_; // read after all threads have been joined
};

} // namespace

unsigned thread_count(unsigned threads) { return threads != 0 ? threads : usable_cores(); }

void parallel_for(std::size_t tasks, unsigned threads,
                  const std::function<void(std::size_t)>& work) {
  Tasks all(tasks, work);
  {
    std::vector<std::jthread> helpers;
    const std::size_t wanted = std::min<std::size_t>(thread_count(threads), tasks);
    for (std::size_t i = 1; i < wanted; ++i) {
      try {
        helpers.emplace_back([&all] { all.run(); });
      } catch (const std::system_error&) {
        break; // no more threads to be had: those there are do all the work
      }
    }
    all.run();
  }
  all.rethrow();
}

} // namespace thinwire
