// A progress thread for which there is no memory any more: everything under way ends all the same.
#include "engine_ranks.hpp"

#include "core/error.hpp"

#include <cstdlib>
#include <new>

// Both sides of the pair are here.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace {

constexpr int kPlenty = -1;
thread_local int allowance = kPlenty; // allocations that a thread has left

void* allocate(std::size_t bytes) noexcept {
  if (allowance == 0)
    return nullptr;
  allowance -= allowance > 0;
  return std::malloc(bytes);
}

void* allocate_or_throw(std::size_t bytes) {
  void* memory = allocate(bytes);
  if (memory == nullptr)
    throw std::bad_alloc();
  return memory;
}

} // namespace

void* operator new(std::size_t bytes) { return allocate_or_throw(bytes); }
void* operator new[](std::size_t bytes) { return allocate_or_throw(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace engines;

// Its progress thread gets memory only so many times from its start on.
class Starvation final : public Operation {
public:
  explicit Starvation(int left) : Operation({1'000'000, 0}, 1, "a starvation", 60s), left_(left) {}
  std::vector<int> peers() const override { return {}; }
  void start(Wires&) override { allowance = left_; }
  void advance() override {}
  std::byte* place(int, const FrameHeader&) override { return nullptr; }
  void receive(Received) override {}
  bool is_finished() const override { return false; }
  std::vector<int> awaited() const override { return {}; }
  void release() override {}

private:
  const int left_;
};

struct Values {
  explicit Values(std::size_t count) : all(count, std::vector<float>(20'000)) {}
  Collectives::Work reduce(Group& group, int rank, std::uint64_t number) {
    std::vector<float>& values = all[number];
    return group.at(rank).collectives.all_reduce(call(number, values.data(), values.data()),
                                                 values.size(), {});
  }
  std::vector<std::vector<float>> all;
};

// Operations before and behind the one that starves rank 0's thread, of which the first one waits.
void starve(LinkKind kind, int left) {
  check::context = "memory for " + std::to_string(left) + " more";
  constexpr std::uint64_t kCount = 6;
  Group group(2, kind, 2);
  Values mine(kCount), others(kCount);
  std::vector<Collectives::Work> works;
  std::shared_ptr<Starvation> starved;
  try {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      works.push_back(mine.reduce(group, 0, i));
      if (i > 0)
        works.push_back(others.reduce(group, 1, i));
      if (i == kCount / 2) {
        starved = std::make_shared<Starvation>(left);
        group.at(0).engine.submit(starved);
      }
    }
  } catch (const TransportError&) { // the group has ended already
  }
  std::vector<float> last(10);
  CHECK_THROWS(TransportError, "", [&] { // a thread that still has memory goes on until it has none
    for (std::uint64_t i = kCount; i < 1000; ++i)
      group.at(0)
          .collectives.all_reduce(call(i, last.data(), last.data()), last.size(), {})
          ->wait_for(1ms);
  }());
  CHECK(starved->wait_for(30s));
  CHECK(starved->outcome().failure.has_value());
  for (const Collectives::Work& work : works)
    CHECK(work->wait_for(30s));
}

} // namespace

TEST(operations_end_where_there_is_no_memory_to_say_so) {
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::inproc})
    for (const int left : {0, 1, 2, 4, 6, 9, 14, 30})
      starve(kind, left);
}
