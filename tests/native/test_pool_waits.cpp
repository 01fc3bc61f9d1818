// Blocks that wait: for tickets, for streams of a device that is made up; and its registrations.
#include "check.hpp"
#include "pool/cuda_driver.hpp"
#include "pool/host_pool.hpp"
#include "pool/registrar.hpp"
#include "pool/size_class.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <set>
#include <vector>

namespace {

using namespace thinwire;
using pool::kMiB;

// A driver whose streams end when the test says so.
class FakeDriver final : public pool::CudaDriver {
public:
  bool is_used(int device) override { return device != unused; }
  void choose_device() override {
    const std::lock_guard lock(mutex);
    has_chosen = true;
  }
  std::string pin(std::byte* memory, std::size_t bytes, bool is_read_only) override {
    const std::lock_guard lock(mutex);
    CHECK(has_chosen && !is_read_only);
    if (refuse)
      return "out of memory";
    pinned[memory] = bytes;
    return "";
  }
  void unpin(std::byte* memory) override {
    const std::lock_guard lock(mutex);
    CHECK(pinned.erase(memory) == 1);
  }
  pool::Event record(const DeviceStream& stream, pool::Event reused) override {
    const std::lock_guard lock(mutex);
    if (broken)
      return nullptr;
    if (!reused)
      ++created;
    ++recorded;
    auto* event = reused ? static_cast<Recorded*>(reused) : new Recorded;
    *event = {stream, given[stream]};
    return event;
  }
  bool passed(pool::Event event) override {
    const std::lock_guard lock(mutex);
    const auto& recorded = *static_cast<Recorded*>(event);
    return done[recorded.stream] >= recorded.after;
  }
  void wait(pool::Event event) override {
    const std::lock_guard lock(mutex);
    const auto& recorded = *static_cast<Recorded*>(event);
    done[recorded.stream] = std::max(done[recorded.stream], recorded.after);
  }
  void destroy(pool::Event event) override {
    ++destroyed;
    delete static_cast<Recorded*>(event);
  }

  struct Recorded {
    DeviceStream stream;
    int after;
  };
  std::mutex mutex;
  std::map<std::byte*, std::size_t> pinned;
  std::map<DeviceStream, int> given; // work that a stream has, and has done
  std::map<DeviceStream, int> done;
  int unused = -1; // a device
  bool has_chosen = false;
  bool refuse = false;
  bool broken = false;
  int created = 0;
  int recorded = 0;
  int destroyed = 0;
};

PoolOptions options() { return {.limit = 512 * kMiB, .huge_pages = false, .threads = 1}; }

// Whether the pool hands this block out within some allocations.
bool comes_back(HostPool& pool, std::byte* block, std::size_t bytes) {
  std::vector<std::byte*> taken;
  bool found = false;
  for (int i = 0; i < 6 && !found; ++i) {
    taken.push_back(pool.allocate(bytes));
    found = taken.back() == block;
  }
  for (std::byte* other : taken)
    pool.free(other);
  return found;
}

constexpr std::size_t kBytes = 6 * kMiB; // each allocation looks at the queues

TEST(a_block_waits_for_its_ticket) {
  HostPool pool({.limit = 512 * kMiB, .register_with_cuda = false});
  const auto ticket = std::make_shared<Ticket>();
  std::byte* block = pool.allocate(kBytes);
  pool.free_after(block, ticket, 2);
  CHECK(!comes_back(pool, block, kBytes));
  ticket->advance(1);
  CHECK(!comes_back(pool, block, kBytes));
  CHECK(pool.stats().deferred_waiting == 1 && pool.stats().deferred_waits > 0);
  ticket->advance(2);
  CHECK(comes_back(pool, block, kBytes));
  CHECK(pool.stats().deferred_waiting == 0 && pool.stats().deferred_frees == 1);
  CHECK(pool.stats().live == 0);
}

TEST(small_blocks_come_back_as_well) {
  HostPool pool({.limit = 512 * kMiB, .register_with_cuda = false});
  const auto ticket = std::make_shared<Ticket>();
  pool.free_after(pool.allocate(4096), ticket, 1);
  ticket->advance(1);
  for (int i = 0; i < 1000; ++i)
    pool.free(pool.allocate(4096));
  CHECK(pool.stats().deferred_waiting == 0);
  CHECK(pool.stats().live == 0);
}

TEST(tickets_out_of_order_hold_up_nobody_else) {
  HostPool pool({.limit = 512 * kMiB, .register_with_cuda = false});
  const auto slow = std::make_shared<Ticket>();
  const auto quick = std::make_shared<Ticket>();
  std::array<std::byte*, 4> blocks;
  for (std::byte*& block : blocks)
    block = pool.allocate(kBytes);
  pool.free_after(blocks[0], slow, 9);
  pool.free_after(blocks[1], slow, 3); // a lower value later
  pool.free_after(blocks[2], quick, 1);
  pool.free_after(blocks[3], slow, 6);
  quick->advance(1);
  CHECK(comes_back(pool, blocks[2], kBytes));
  slow->advance(4);
  CHECK(comes_back(pool, blocks[1], kBytes));
  CHECK(pool.stats().deferred_waiting == 2);
  slow->advance(2); // a ticket does not go back
  slow->advance(9);
  pool.trim();
  CHECK(pool.stats().deferred_waiting == 0);
  CHECK(pool.stats().held == 0);
}

TEST(a_ticket_that_has_been_reached_is_no_wait) {
  HostPool pool({.limit = 512 * kMiB, .register_with_cuda = false});
  const auto ticket = std::make_shared<Ticket>();
  ticket->advance(5);
  pool.free_after(pool.allocate(kBytes), ticket, 5);
  CHECK(pool.stats().deferred_frees == 0 && pool.stats().live == 0);
}

TEST(a_pool_may_die_before_its_tickets) {
  const auto ticket = std::make_shared<Ticket>();
  {
    HostPool pool({.limit = 64 * kMiB, .register_with_cuda = false});
    pool.free_after(pool.allocate(kBytes), ticket, 1);
    ticket->advance(1);
  }
  CHECK(ticket.use_count() == 1);
}

TEST(a_block_waits_for_all_its_streams) {
  FakeDriver driver;
  HostPool pool(options(), {.driver = &driver});
  const DeviceStream legacy{0, nullptr};
  const DeviceStream other{1, &driver};
  std::byte* block = pool.allocate(kBytes);
  driver.given[legacy] = 1;
  driver.given[other] = 1;
  pool.free_after_streams(block, std::array{legacy, other});
  CHECK(!comes_back(pool, block, kBytes));
  driver.done[other] = 1;
  CHECK(!comes_back(pool, block, kBytes));
  driver.done[legacy] = 1;
  CHECK(comes_back(pool, block, kBytes));
  CHECK(pool.stats().live == 0);
}

TEST(frees_of_a_stream_share_an_event_and_events_are_used_again) {
  FakeDriver driver;
  const DeviceStream stream{0, &driver};
  {
    HostPool pool(options(), {.driver = &driver});
    for (int round = 1; round <= 5; ++round) {
      std::vector<std::byte*> blocks;
      for (int i = 0; i < 20; ++i)
        blocks.push_back(pool.allocate(4096));
      driver.given[stream] = round;
      for (std::byte* block : blocks)
        pool.free_after_streams(block, std::array{stream});
      pool.free(pool.allocate(kBytes));
      CHECK(driver.recorded <= round * 2);
      driver.done[stream] = round;
      pool.trim();
      CHECK(pool.stats().live == 0);
    }
  }
  CHECK(driver.created <= 2);
  CHECK(driver.destroyed == driver.created);
}

TEST(what_a_stream_still_does_is_waited_for_when_a_pool_dies) {
  FakeDriver driver;
  const DeviceStream stream{0, nullptr};
  {
    HostPool pool(options(), {.driver = &driver});
    driver.given[stream] = 3;
    pool.free_after_streams(pool.allocate(kBytes), std::array{stream});
  }
  CHECK(driver.done[stream] == 3);
  CHECK(driver.pinned.empty());
}

TEST(a_block_whose_event_cannot_be_recorded_is_not_used_again) {
  FakeDriver driver;
  HostPool pool(options(), {.driver = &driver});
  std::byte* block = pool.allocate(kBytes);
  driver.broken = true;
  pool.free_after_streams(block, std::array{DeviceStream{}});
  CHECK(!comes_back(pool, block, kBytes));
  driver.broken = false;
  CHECK(comes_back(pool, block, kBytes));
}

TEST(a_device_that_the_process_does_not_use_has_nothing_to_wait_for) {
  FakeDriver driver;
  driver.unused = 1;
  HostPool pool(options(), {.driver = &driver});
  const DeviceStream used{0, nullptr}, unused{1, nullptr};
  driver.given = {{used, 1}, {unused, 1}};
  std::byte* block = pool.allocate(kBytes);
  pool.free_after_streams(block, std::array{unused});
  CHECK(comes_back(pool, block, kBytes));
  block = pool.allocate(kBytes);
  pool.free_after_streams(block, std::array{used, unused});
  CHECK(!comes_back(pool, block, kBytes));
  driver.done[used] = 1;
  CHECK(comes_back(pool, block, kBytes));
}

TEST(memory_is_called_registered_when_the_driver_has_done_it) {
  FakeDriver driver;
  {
    HostPool pool(options(), {.driver = &driver});
    std::byte* block = pool.allocate(kBytes);
    pool.settle();
    CHECK(pool.tier(block) == Tier::registered);
    CHECK(pool.stats().tiers[3].held == pool.stats().held);
    pool.free(block);
    CHECK(pool.trim() > 0);
    CHECK(driver.pinned.empty());
  }
  CHECK(driver.pinned.empty());
}

TEST(memory_that_the_driver_refuses_stays_what_it_was) {
  FakeDriver driver;
  driver.refuse = true;
  HostPool pool(options(), {.driver = &driver});
  std::byte* block = pool.allocate(kBytes);
  pool.settle();
  CHECK(pool.tier(block) == Tier::plain);
  CHECK(pool.stats().reasons.size() == 1);
  pool.free(block);
  CHECK(pool.trim() > 0);
  CHECK(pool.stats().held == 0);
}

TEST(a_gpu_that_cannot_be_used_is_a_reason) {
  const Surroundings old_driver{.cuda_fault = [] { return std::string("the driver is too old"); }};
  CHECK(HostPool(options(), old_driver).stats().reasons ==
        std::vector<std::string>{"the driver is too old"});
  PoolOptions without = options();
  without.register_with_cuda = false;
  CHECK(HostPool(without, old_driver).stats().reasons.empty());
  FakeDriver driver;
  CHECK(HostPool(options(), {.driver = &driver}).stats().reasons.empty());
}

TEST(nothing_is_registered_after_the_end) {
  FakeDriver driver;
  std::size_t done = 0;
  const auto early = pool::Region::map(1, false), late = pool::Region::map(1, false);
  pool::Registrar registrar(driver, [&](pool::Region&, const std::string&) { ++done; });
  registrar.add(*early);
  registrar.end();
  CHECK(done == driver.pinned.size()); // none, or the early one, but none is under way
  registrar.add(*late);
  registrar.settle();
  CHECK(!driver.pinned.contains(late->begin()));
}

TEST(no_block_lies_in_two_registrations) {
  FakeDriver driver;
  HostPool pool(options(), {.driver = &driver});
  std::vector<std::byte*> blocks;
  for (const std::size_t bytes : {5 * kMiB, 60 * kMiB, 80 * kMiB, 3 * kMiB, 130 * kMiB})
    blocks.push_back(pool.allocate(bytes));
  pool.settle();
  for (std::byte* block : blocks) {
    const auto after = driver.pinned.upper_bound(block);
    CHECK(after != driver.pinned.begin());
    const auto& [begin, bytes] = *std::prev(after);
    CHECK(block + pool.usable(block) <= begin + bytes);
    pool.free(block);
  }
  CHECK(pool.stats().peak_held <= pool.stats().limit);
}

} // namespace
