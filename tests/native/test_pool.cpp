// The pool: every block its own memory under random traces of several threads, and what happens
// when threads, pools and processes end.
#include "check.hpp"
#include "pool/host_pool.hpp"
#include "pool/size_class.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using namespace thinwire;
using pool::kMiB;

PoolOptions plain(std::size_t limit = 512 * kMiB) {
  return {.limit = limit, .huge_pages = false, .register_with_cuda = false, .threads = 1};
}

// A block filled with bytes that tell it from all others: the ends of large ones, to save time.
struct Marked {
  std::byte* memory;
  std::size_t bytes;
  std::byte mark;

  static Marked make(HostPool& pool, std::size_t bytes, unsigned number) {
    Marked block{pool.allocate(bytes), bytes, static_cast<std::byte>(number)};
    block.each_end(
        [&](std::byte* at, std::size_t n) { std::memset(at, static_cast<int>(block.mark), n); });
    return block;
  }
  bool intact() const {
    bool same = true;
    each_end([&](const std::byte* at, std::size_t n) {
      same &= std::all_of(at, at + n, [this](std::byte b) { return b == mark; });
    });
    return same;
  }

private:
  template <class Act> void each_end(Act act) const {
    const std::size_t part = std::min<std::size_t>(bytes, 512);
    act(memory, part);
    act(memory + bytes - part, part);
  }
};

// Blocks that threads hand to each other.
class Exchange {
public:
  void put(const Marked& block) {
    const std::lock_guard lock(mutex_);
    blocks_.push_back(block);
  }
  std::optional<Marked> take(std::mt19937& random) {
    const std::lock_guard lock(mutex_);
    if (blocks_.empty())
      return std::nullopt;
    std::swap(blocks_[random() % blocks_.size()], blocks_.back());
    const Marked block = blocks_.back();
    blocks_.pop_back();
    return block;
  }

private:
  std::mutex mutex_;
  std::vector<Marked> blocks_;
};

std::size_t random_size(std::mt19937& random) {
  const std::size_t most = std::size_t{1} << (random() % 24); // small ones are as frequent as large
  return random() % most + 1;
}

TEST(classes_are_the_smallest_that_hold_a_size) {
  for (std::size_t c = 0; c + 1 < pool::kClasses; ++c) {
    CHECK(pool::class_of(pool::size_of(c)) == c);
    CHECK(pool::class_of(pool::size_of(c) + 1) == c + 1);
    CHECK(pool::size_of(c) % pool::kSmallest == 0);
    CHECK(c < pool::kEven || pool::size_of(c + 1) * 4 <= pool::size_of(c) * 5);
  }
  CHECK(pool::size_of(pool::kClasses - 1) == pool::kLargestInClass);
  CHECK(pool::class_of(0, 64) == 0);
  CHECK(pool::class_of(pool::kLargestInClass + 1, 64) == pool::kTooLarge);
}

TEST(blocks_begin_where_they_were_asked_to) {
  HostPool pool(plain());
  for (std::size_t alignment = 1; alignment <= 2 * kMiB; alignment *= 2)
    for (const std::size_t bytes : {0UL, 1UL, 100UL, 5000UL, 12288UL, 300000UL, 70 * kMiB}) {
      std::byte* block = pool.allocate(bytes, alignment);
      CHECK(reinterpret_cast<std::uintptr_t>(block) % alignment == 0);
      CHECK(pool.usable(block) >= bytes);
      pool.free(block);
    }
  CHECK_THROWS(InvalidArgument, "power of two", pool.allocate(1, 3));
  CHECK_THROWS(InvalidArgument, "power of two", pool.allocate(1, 4 * kMiB));
  CHECK_THROWS(PoolExhausted, "bytes", pool.allocate(~std::size_t{0}));
}

TEST(blocks_keep_what_is_written_in_traces_of_several_threads) {
  HostPool pool(plain(2048 * kMiB));
  Exchange exchange;
  std::atomic<int> damaged = 0;
  {
    std::vector<std::jthread> threads;
    for (unsigned seed = 0; seed < 4; ++seed)
      threads.emplace_back([&, seed] {
        std::mt19937 random(seed);
        for (int i = 0; i < 3000; ++i) {
          if (random() % 2 == 0)
            exchange.put(Marked::make(pool, random_size(random), random()));
          else if (const auto block = exchange.take(random)) {
            damaged += !block->intact();
            pool.free(block->memory);
          }
          if (random() % 500 == 0)
            pool.trim();
        }
      });
  }
  std::mt19937 random(9);
  while (const auto block = exchange.take(random)) {
    damaged += !block->intact();
    pool.free(block->memory);
  }
  CHECK(damaged == 0);
  const PoolStats stats = pool.stats();
  CHECK(stats.live == 0);
  CHECK(stats.remote_frees > 0);
  CHECK(stats.local_frees + stats.remote_frees == stats.allocations);
  for (const ClassStats& c : stats.classes)
    CHECK(c.live == 0 && c.peak > 0);
  pool.trim();
  CHECK(pool.stats().held == 0);
}

TEST(a_freed_block_is_the_next_one) {
  HostPool pool(plain());
  for (const std::size_t bytes : {64UL, 4096UL, 4 * kMiB, 30 * kMiB}) {
    std::byte* first = pool.allocate(bytes);
    pool.free(first);
    std::byte* second = pool.allocate(bytes);
    CHECK(second == first);
    pool.free(second);
  }
  CHECK(pool.stats().misses < pool.stats().allocations);
}

TEST(blocks_outlive_the_thread_that_allocated_them) {
  HostPool pool(plain());
  pool.free(pool.allocate(3000)); // or this thread would use the cache of the one that has ended
  std::vector<Marked> blocks;
  std::jthread([&] {
    for (unsigned i = 0; i < 200; ++i)
      blocks.push_back(Marked::make(pool, 3000, i));
  }).join();
  for (const Marked& block : blocks) {
    CHECK(block.intact());
    pool.free(block.memory);
  }
  CHECK(pool.stats().live == 0);
  CHECK(pool.stats().remote_frees == 200);
  pool.trim();
  CHECK(pool.stats().held == 0);
}

TEST(what_a_thread_kept_is_there_for_others_when_it_ends) {
  HostPool pool(plain(2 * kMiB));
  for (int i = 0; i < 50; ++i)
    std::jthread([&] { pool.free(pool.allocate(kMiB + kMiB / 2)); }).join();
  CHECK(pool.stats().peak_held <= 2 * kMiB);
}

TEST(many_threads_may_use_a_pool_at_once) {
  HostPool pool(plain());
  std::atomic<int> ready = 0;
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < 64; ++i)
      threads.emplace_back([&, i] {
        const Marked block = Marked::make(pool, 1000, i);
        ++ready;
        while (ready < 64)
          std::this_thread::yield();
        CHECK(block.intact());
        pool.free(block.memory);
      });
  }
  CHECK(pool.stats().live == 0);
}

TEST(pools_do_not_mix_blocks) {
  std::vector<std::unique_ptr<HostPool>> pools; // more than a thread remembers
  for (int i = 0; i < 40; ++i)
    pools.push_back(std::make_unique<HostPool>(plain(64 * kMiB)));
  std::mt19937 random(3);
  std::vector<std::pair<std::size_t, Marked>> blocks;
  for (unsigned i = 0; i < 2000; ++i) {
    const std::size_t which = random() % pools.size();
    blocks.emplace_back(which, Marked::make(*pools[which], random() % 20000 + 1, i));
  }
  for (const auto& [which, block] : blocks) {
    CHECK(block.intact());
    pools[which]->free(block.memory);
  }
  for (const auto& pool : pools)
    CHECK(pool->stats().live == 0);
}

TEST(a_pool_that_dies_leaves_its_blocks_until_they_are_freed) {
  auto pool = std::make_unique<HostPool>(plain());
  HostPool other(plain()); // through which blocks of a dead pool may be freed
  std::vector<Marked> blocks;
  std::jthread holder;
  std::atomic<bool> dead = false;
  std::atomic<bool> ready = false;
  Marked of_holder{};
  holder = std::jthread([&] {
    of_holder = Marked::make(*pool, 70000, 5);
    pool->free(pool->allocate(70000)); // something in its magazine
    ready = true;
    while (!dead)
      std::this_thread::yield();
    CHECK(of_holder.intact());
    other.free(of_holder.memory);
  });
  while (!ready)
    std::this_thread::yield();
  for (unsigned i = 0; i < 100; ++i)
    blocks.push_back(Marked::make(*pool, 50000, i));
  pool.reset();
  dead = true;
  for (const Marked& block : blocks) {
    CHECK(block.intact());
    other.free(block.memory);
  }
  holder.join();
  std::jthread([&] { other.free(other.allocate(50000)); }).join();
  CHECK(other.stats().live == 0);
}

TEST(a_child_leaves_blocks_of_its_parent_alone_and_has_memory_of_its_own) {
  HostPool pool(plain());
  const Marked mine = Marked::make(pool, 100000, 7);
  const pid_t child = fork();
  if (child == 0) {
    bool fine = mine.intact();
    pool.free(mine.memory);
    const Marked theirs = Marked::make(pool, 100000, 8);
    fine &= theirs.memory != mine.memory && mine.intact() && theirs.intact();
    fine &=
        pool.stats().live == pool.usable(theirs.memory) && pool.tier(theirs.memory) == Tier::plain;
    pool.free(theirs.memory);
    HostPool another(plain());
    another.free(another.allocate(10));
    HostPool::shared().free(HostPool::shared().allocate(10));
    _exit(fine ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(mine.intact());
  const Marked next = Marked::make(pool, 100000, 9);
  CHECK(next.memory != mine.memory);
  pool.free(next.memory);
  pool.free(mine.memory);
  CHECK(pool.stats().live == 0);
}

} // namespace
