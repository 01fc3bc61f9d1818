// Blocks that other threads free: none is lost or given twice, however many there are, and they are
// there for the thread that had allocated them.
#include "check.hpp"
#include "pool/host_pool.hpp"
#include "pool/inbox.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace {

using namespace thinwire;
using pool::Block;
using pool::FreeList;
using pool::Inbox;

constexpr std::size_t kMany = 1000; // more than an inbox has places for

std::size_t place_of(const std::vector<Block>& blocks, const Block* block) {
  return static_cast<std::size_t>(block - blocks.data());
}

TEST(an_inbox_gives_each_block_once) {
  std::vector<Block> blocks(kMany);
  std::vector<int> times(kMany);
  Inbox inbox;
  for (Block& block : blocks)
    CHECK(inbox.put(&block));
  while (const Block* block = inbox.take())
    ++times[place_of(blocks, block)];
  CHECK(std::ranges::all_of(times, [](int n) { return n == 1; }));
}

TEST(an_inbox_gives_each_block_once_while_threads_put) {
  constexpr std::size_t kThreads = 4;
  std::vector<Block> blocks(kThreads * kMany);
  std::vector<int> times(blocks.size());
  Inbox inbox;
  std::size_t taken = 0;
  std::vector<std::jthread> threads;
  for (std::size_t first = 0; first < blocks.size(); first += kMany)
    threads.emplace_back([&, first] {
      for (std::size_t i = first; i < first + kMany; ++i)
        CHECK(inbox.put(&blocks[i]));
    });
  while (taken < blocks.size())
    if (const Block* block = inbox.take()) {
      ++times[place_of(blocks, block)];
      ++taken;
    } else {
      std::this_thread::yield();
    }
  CHECK(inbox.take() == nullptr);
  CHECK(std::ranges::all_of(times, [](int n) { return n == 1; }));
}

TEST(what_is_put_while_an_inbox_closes_is_in_it_or_refused) {
  std::vector<Block> blocks(kMany);
  for (int round = 0; round < 20; ++round) {
    Inbox inbox;
    FreeList left;
    std::atomic<std::size_t> put = 0;
    {
      std::jthread thread([&] {
        for (Block& block : blocks)
          put += inbox.put(&block);
      });
      while (put < kMany / 4)
        std::this_thread::yield();
      inbox.close(left);
    }
    CHECK(left.size() == put);
    CHECK(!inbox.put(&blocks[0]));
    CHECK(inbox.take() == nullptr);
    inbox.open();
    CHECK(inbox.put(&blocks[0]));
    CHECK(inbox.take() == &blocks[0]);
  }
}

TEST(blocks_that_another_thread_has_freed_are_allocated_again) {
  HostPool pool({.huge_pages = false, .register_with_cuda = false, .threads = 1});
  std::vector<std::byte*> blocks(kMany);
  for (std::byte*& block : blocks)
    block = pool.allocate(5000);
  const std::uint64_t misses = pool.stats().misses;
  std::jthread([&] {
    for (std::byte* block : blocks)
      pool.free(block);
  }).join();
  CHECK(pool.stats().remote_frees == kMany);
  for (std::byte*& block : blocks)
    block = pool.allocate(5000);
  CHECK(pool.stats().misses == misses);
  for (std::byte* block : blocks)
    pool.free(block);
  CHECK(pool.stats().live == 0);
}

} // namespace
