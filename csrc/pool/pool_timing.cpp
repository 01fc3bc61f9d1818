#include "pool/pool_timing.hpp"

#include "core/cache_line.hpp"
#include "pool/size_class.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <sys/mman.h>
#include <thread>
#include <vector>

namespace thinwire {
namespace {

constexpr std::size_t kMostInBatch = std::size_t{64} << 20; // bytes

template <class Act> double seconds_of(Act act) {
  const auto begun = std::chrono::steady_clock::now();
  act();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

// Batches of blocks on their way from one thread to another: so the time is that of the pool, not
// that of handing over.
class Channel {
public:
  using Batch = std::vector<std::byte*>;

  // The batch to write next, when the other thread has read it; then the same from its side.
  Batch& begin_write() { return wait_for(written_, false); }
  void end_write() { pass(written_, true); }
  const Batch& begin_read() { return wait_for(read_, true); }
  void end_read() { pass(read_, false); }

private:
  struct alignas(kCacheLine) Slot {
    std::atomic<bool> full = false;
    Batch batch;
  };

  Batch& wait_for(std::size_t count, bool full) {
    Slot& slot = slots_[count % slots_.size()];
    while (slot.full.load(std::memory_order_acquire) != full)
      std::this_thread::yield();
    return slot.batch;
  }
  void pass(std::size_t& count, bool full) {
    slots_[count++ % slots_.size()].full.store(full, std::memory_order_release);
  }

  std::array<Slot, 4> slots_;
  alignas(kCacheLine) std::size_t written_ = 0;
  alignas(kCacheLine) std::size_t read_ = 0;
};

std::size_t blocks_in_batch(std::size_t bytes) {
  return std::clamp<std::size_t>(kMostInBatch / bytes, 1, 64);
}

} // namespace

double time_pairs(HostPool& pool, std::size_t bytes, std::size_t pairs) {
  pool.free(pool.allocate(bytes));
  const double seconds = seconds_of([&] {
    for (std::size_t i = 0; i < pairs; ++i)
      pool.free(pool.allocate(bytes));
  });
  return seconds / static_cast<double>(pairs);
}

double time_remote_pairs(HostPool& pool, std::size_t bytes, std::size_t pairs) {
  const std::size_t blocks = blocks_in_batch(bytes);
  const std::size_t batches = (pairs + blocks - 1) / blocks;
  Channel channel;
  const double seconds = seconds_of([&] {
    std::jthread other([&] {
      for (std::size_t i = 0; i < batches; ++i) {
        for (std::byte* block : channel.begin_read())
          pool.free(block);
        channel.end_read();
      }
    });
    for (std::size_t i = 0; i < batches; ++i) {
      Channel::Batch& batch = channel.begin_write();
      batch.resize(blocks);
      for (std::byte*& block : batch)
        block = pool.allocate(bytes);
      channel.end_write();
    }
  });
  return seconds / static_cast<double>(batches * blocks);
}

double time_touch(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw PoolExhausted("the system has no " + std::to_string(bytes) + " bytes");
  const double seconds = seconds_of([&] {
    for (std::size_t i = 0; i < bytes; i += pool::kPage)
      static_cast<volatile char*>(memory)[i] = 1;
  });
  munmap(memory, bytes);
  return seconds;
}

double time_reserve(const PoolOptions& options, std::size_t bytes) {
  HostPool pool(options);
  return seconds_of([&] {
    pool.reserve(bytes);
    pool.free(pool.allocate(bytes));
  });
}

} // namespace thinwire
