// The pools of this process, its threads and its forks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace thinwire::pool {

class Core;
class ThreadCache;

// How often this process is the child of a fork: memory of another generation is the parent's.
unsigned generation();

// A number that no other thread has or had; 0 where the thread is ending, and keeps nothing more.
std::uint64_t this_thread();

// Which cache a thread has in a pool that it used lately.
struct Recent {
  std::uint64_t core = 0;
  ThreadCache* cache = nullptr;
};

inline constexpr std::size_t kRecent = 16;
extern constinit thread_local Recent recent_caches[kRecent];

// The pools that a thread that ends has to leave.
class Cores {
public:
  static Cores& get();

  void add(Core& core);
  void remove(Core& core);
  void thread_ends(std::uint64_t thread);

private:
  std::mutex mutex_;
  std::vector<Core*> all_;
};

} // namespace thinwire::pool
