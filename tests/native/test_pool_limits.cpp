// What a pool may take, and when it gives back: limits, trim, decay, huge pages, locked memory.
#include "check.hpp"
#include "pool/budget.hpp"
#include "pool/first_touch.hpp"
#include "pool/host_pool.hpp"
#include "pool/size_class.hpp"

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using namespace thinwire;
using pool::kMiB;

PoolOptions plain(std::size_t limit = 512 * kMiB) {
  return {.limit = limit, .huge_pages = false, .register_with_cuda = false, .threads = 2};
}

std::atomic<std::uint64_t> time_now = 0;
std::uint64_t fake_now() { return time_now; }
void pass_seconds(double seconds) { time_now += static_cast<std::uint64_t>(seconds * 1e9); }

// A folder with files as under /proc and /sys.
class FakeSystem {
public:
  FakeSystem() {
    char name[] = "/tmp/thinwire_budget_XXXXXX";
    root_ = mkdtemp(name);
    write("/proc/meminfo", "MemTotal: 100000 kB\nMemAvailable: 50000 kB\n");
  }
  ~FakeSystem() { std::filesystem::remove_all(root_); }
  FakeSystem(const FakeSystem&) = delete;
  FakeSystem& operator=(const FakeSystem&) = delete;

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  pool::Budget budget(std::size_t asked = 0) const { return pool::budget(asked, root_); }

private:
  std::string root_;
};

TEST(the_least_of_all_limits_counts) {
  const FakeSystem system;
  CHECK(system.budget().bytes == 40000 * 1024UL);
  CHECK(system.budget().set_by == "available memory");
  CHECK(system.budget(1000).bytes == 1000);
  CHECK(system.budget(1000).set_by == "the caller");

  system.write("/proc/self/cgroup", "12:cpu,cpuacct:/a\n4:memory:/a/b\n");
  system.write("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
  CHECK(system.budget().set_by == "available memory");
  system.write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "10000000\n");
  system.write("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "9000000\n");
  system.write("/sys/fs/cgroup/memory/a/memory.stat", "cache 5\ntotal_inactive_file 2000000\n");
  CHECK(system.budget().bytes == 3000000);
  CHECK(system.budget().set_by == "the control group");

  system.write("/proc/self/cgroup", "0::/host/path\n");
  system.write("/sys/fs/cgroup/memory.max", "max\n");
  CHECK(system.budget().set_by == "available memory");
  system.write("/sys/fs/cgroup/memory.max", "4000000\n"); // in a container there is only the mount
  system.write("/sys/fs/cgroup/memory.current", "5000000\n");
  CHECK(system.budget().bytes == 0);
  system.write("/sys/fs/cgroup/memory.stat", "inactive_file 4999999\nfile 3\n");
  CHECK(system.budget().bytes == 3999999);
}

TEST(at_the_limit_a_pool_says_so_and_goes_on) {
  HostPool pool(plain(8 * kMiB));
  std::vector<std::byte*> blocks;
  for (int i = 0; i < 8; ++i)
    blocks.push_back(pool.allocate(kMiB));
  CHECK_THROWS(PoolExhausted, "limit of 8.0 MiB (set by the caller)", pool.allocate(kMiB));
  CHECK_THROWS(PoolExhausted, "8.0 MiB are in use", pool.allocate(64));
  CHECK_THROWS(PoolExhausted, "limit", pool.reserve(4 * kMiB));
  for (std::byte* block : blocks)
    pool.free(block);
  pool.free(pool.allocate(8 * kMiB)); // what was free in another size makes room
  pool.free(pool.allocate(64));
  CHECK_THROWS(PoolExhausted, "9.0 MiB asked for", pool.allocate(9 * kMiB));
  CHECK(pool.stats().peak_held <= 8 * kMiB);
}

TEST(magazines_of_other_threads_are_emptied_before_a_pool_gives_up) {
  HostPool pool(plain(4 * kMiB));
  std::atomic<int> stage = 0;
  std::jthread other([&] {
    pool.free(pool.allocate(4 * kMiB));
    stage = 1;
    while (stage < 2)
      std::this_thread::yield();
  });
  while (stage < 1)
    std::this_thread::yield();
  pool.free(pool.allocate(kMiB));
  stage = 2;
  CHECK(pool.stats().live == 0);
}

TEST(what_is_free_makes_room_for_a_block_that_fills_less_than_its_class) {
  HostPool pool(plain(96 * kMiB));
  std::byte* stays = pool.allocate(32 * kMiB);
  pool.free(pool.allocate(12 * kMiB));
  std::byte* block = pool.allocate(51 * kMiB); // of the class of 56
  CHECK(block != nullptr);
  pool.free(block);
  pool.free(stays);
}

TEST(what_is_free_makes_room_for_a_reservation) {
  HostPool pool(plain(128 * kMiB));
  pool.free(pool.allocate(60 * kMiB));
  std::byte* stays = pool.allocate(10 * kMiB);
  pool.reserve(100 * kMiB);
  CHECK(pool.stats().held <= 128 * kMiB);
  CHECK_THROWS(PoolExhausted, "limit", pool.reserve(120 * kMiB));
  pool.free(stays);
}

TEST(a_request_beyond_the_limit_costs_nobody_anything) {
  HostPool pool(plain(64 * kMiB));
  pool.free(pool.allocate(40 * kMiB));
  const std::size_t held = pool.stats().held;
  CHECK_THROWS(PoolExhausted, "limit", pool.allocate(65 * kMiB));
  CHECK(pool.stats().held == held);
}

TEST(threads_that_fit_together_never_exhaust_a_pool) {
  HostPool pool(plain(300 * kMiB));
  const auto use = [&pool](unsigned seed) {
    for (std::size_t i = 0; i < 2000; ++i) {
      seed = seed * 1664525 + 1013904223;
      pool.free(pool.allocate((65 + seed % 64) * kMiB)); // classes of up to 128 MiB
    }
  };
  std::jthread other(use, 1u);
  use(2);
  other.join();
  CHECK(pool.stats().live == 0);
}

TEST(trim_gives_back_all_but_what_is_to_be_kept) {
  HostPool pool(plain());
  std::byte* live = pool.allocate(3 * kMiB);
  std::byte* large = pool.allocate(100 * kMiB);
  pool.free(large);
  const std::size_t held = pool.stats().held;
  CHECK(held >= 103 * kMiB);
  const std::size_t gone = pool.trim(50 * kMiB);
  CHECK(pool.stats().held == held - gone);
  CHECK(pool.stats().held <= 50 * kMiB && pool.stats().held > 40 * kMiB);
  pool.trim();
  CHECK(pool.stats().held == pool.usable(live));
  pool.free(live);
  pool.trim();
  CHECK(pool.stats().held == 0);
}

TEST(memory_that_went_back_comes_again_as_zeros) {
  HostPool pool(plain());
  std::byte* block = pool.allocate(4 * kMiB);
  std::memset(block, 1, 4 * kMiB);
  std::byte* stays = pool.allocate(4 * kMiB);
  pool.free(block);
  pool.trim();
  block = pool.allocate(4 * kMiB);
  CHECK(block[0] == std::byte{0} && block[4 * kMiB - 1] == std::byte{0});
  pool.free(block);
  pool.free(stays);
}

TEST(only_what_two_periods_did_not_need_decays) {
  HostPool pool(plain(), {.now = &fake_now});
  const auto step = [&] {
    pass_seconds(6);
    pool.free(pool.allocate(30 * kMiB)); // larger than magazines keep
  };
  pool.free(pool.allocate(200 * kMiB));
  const std::size_t held = pool.stats().held;
  step();
  CHECK(pool.stats().held == held);
  for (int i = 0; i < 6; ++i)
    step();
  CHECK(pool.stats().held >= 30 * kMiB && pool.stats().held < 34 * kMiB);
  std::byte* block = pool.allocate(30 * kMiB);
  CHECK(block != nullptr);
  pool.free(block);
}

TEST(what_another_thread_freed_decays_too) {
  HostPool pool(plain(), {.now = &fake_now});
  std::vector<std::byte*> blocks;
  for (int i = 0; i < 50; ++i)
    blocks.push_back(pool.allocate(4 * kMiB));
  std::jthread([&] {
    for (std::byte* block : blocks)
      pool.free(block);
  }).join();
  CHECK(pool.stats().held >= 200 * kMiB);
  for (int i = 0; i < 6; ++i) {
    pass_seconds(11);
    pool.free(pool.allocate(30 * kMiB)); // of another size
  }
  CHECK(pool.stats().held < 34 * kMiB);
}

TEST(what_was_reserved_does_not_decay) {
  HostPool pool(plain(), {.now = &fake_now});
  pool.reserve(100 * kMiB);
  CHECK(pool.stats().held == 100 * kMiB);
  for (int i = 0; i < 5; ++i) {
    pass_seconds(11);
    pool.free(pool.allocate(5 * kMiB));
  }
  CHECK(pool.stats().held == 100 * kMiB);
  std::byte* block = pool.allocate(100 * kMiB);
  CHECK(pool.stats().held == 100 * kMiB);
  pool.free(block);
  CHECK(pool.trim() == 100 * kMiB);
}

TEST(memory_held_is_near_memory_asked_for) {
  for (std::size_t bytes = 64 * 1024; bytes < 40 * kMiB; bytes = bytes * 3 / 2) {
    HostPool pool(plain());
    std::vector<std::byte*> blocks;
    for (std::size_t sum = 0; sum < 60 * kMiB; sum += bytes)
      blocks.push_back(pool.allocate(bytes));
    check::context = std::to_string(bytes);
    CHECK(pool.stats().held < blocks.size() * bytes * 5 / 4 + 2 * kMiB);
    for (std::byte* block : blocks)
      pool.free(block);
  }
}

TEST(populating_changes_nothing) {
  std::vector<std::byte> memory(64 * 4096, std::byte{3});
  const auto first = reinterpret_cast<std::uintptr_t>(memory.data());
  std::byte* page = memory.data() + (4096 - first % 4096) % 4096;
  pool::populate({page, 32 * 4096}, 2);
  for (const std::byte b : memory)
    CHECK(b == std::byte{3});
}

TEST(the_slower_kind_of_pages_is_dropped) {
  for (const bool huge_is_faster : {true, false}) {
    pool::HugePageTrial trial(true);
    CHECK(trial.next().huge && trial.next().read_back);
    for (int i = 0; i < 2; ++i) {
      const auto step = trial.next();
      CHECK(step.huge && step.most > 0);
      trial.record(step, 16 * kMiB, huge_is_faster ? 0.001 : 0.1);
    }
    for (int i = 0; i < 2; ++i) {
      const auto step = trial.next();
      CHECK(!step.huge);
      trial.record(step, 16 * kMiB, 0.01);
    }
    CHECK(trial.next().huge == huge_is_faster);
    CHECK(trial.result().huge_pages == huge_is_faster);
  }
  pool::HugePageTrial refused(true);
  refused.refuse();
  CHECK(!refused.next().huge);
  CHECK(!pool::HugePageTrial(false).next().huge);
}

TEST(huge_pages_are_called_so_only_where_the_kernel_gave_them) {
  HostPool pool({.limit = 512 * kMiB, .register_with_cuda = false});
  std::byte* block = pool.allocate(16 * kMiB);
  const PoolStats stats = pool.stats();
  CHECK((pool.tier(block) == Tier::huge) == (stats.huge_share >= 0.5));
  CHECK(stats.huge_pages || !stats.reasons.empty());
  pool.free(block);
  pool.free(pool.allocate(128 * kMiB));
  const PoolStats after = pool.stats();
  CHECK(after.plain_bytes_per_s > 0 || !after.huge_pages);
}

TEST(memory_is_locked_within_the_limit_and_no_further) {
  rlimit before{};
  getrlimit(RLIMIT_MEMLOCK, &before);
  const rlimit small{std::min<rlim_t>(4 * kMiB, before.rlim_max), before.rlim_max};
  setrlimit(RLIMIT_MEMLOCK, &small);
  {
    PoolOptions options = plain();
    options.lock = true;
    HostPool pool(options);
    std::byte* inside = pool.allocate(kMiB);
    if (small.rlim_cur == 4 * kMiB)
      CHECK(pool.tier(inside) == Tier::mlocked);
    std::byte* beyond = pool.allocate(16 * kMiB);
    CHECK(pool.tier(beyond) == Tier::plain);
    CHECK(!pool.stats().reasons.empty());
    pool.free(inside);
    pool.free(beyond);
    pool.trim();
    std::byte* again = pool.allocate(kMiB); // what was unlocked may be locked again
    if (small.rlim_cur == 4 * kMiB)
      CHECK(pool.tier(again) == Tier::mlocked);
    pool.free(again);
  }
  setrlimit(RLIMIT_MEMLOCK, &before);
}

} // namespace
