// A progress thread for which there is no memory any more: everything under way ends all the same.
#include "engine_ranks.hpp"

#include "core/error.hpp"

#include <cstdlib>
#include <new>

// Both sides of the pair are here.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace {

thread_local bool is_starved = false;

void* allocate(std::size_t bytes) noexcept { return is_starved ? nullptr : std::malloc(bytes); }

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

// Its progress thread gets no memory from its start on.
class Starvation final : public Operation {
public:
  Starvation() : Operation({1'000'000, 0}, 1, "a starvation", 60s) {}
  std::vector<int> peers() const override { return {}; }
  void start(Wires&) override { is_starved = true; }
  void advance() override {}
  std::byte* place(int, const FrameHeader&) override { return nullptr; }
  void receive(Received) override {}
  bool is_finished() const override { return false; }
  std::vector<int> awaited() const override { return {}; }
  void release() override {}
};

} // namespace

TEST(operations_end_where_there_is_no_memory_to_say_so) {
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::inproc}) {
    Group group(2, kind);
    std::vector<std::vector<float>> values(8, std::vector<float>(100'000));
    std::vector<Collectives::Work> here, there;
    for (std::uint64_t i = 0; i < values.size() / 2; ++i) {
      here.push_back(group.at(0).collectives.all_reduce(call(i, values[i].data(), values[i].data()),
                                                        values[i].size(), {}));
      if (i > 0) { // the first one waits
        std::vector<float>& other = values[values.size() / 2 + i];
        there.push_back(group.at(1).collectives.all_reduce(call(i, other.data(), other.data()),
                                                           other.size(), {}));
      }
    }
    const auto starved = std::make_shared<Starvation>();
    group.at(0).engine.submit(starved);
    CHECK(starved->wait_for(30s));
    CHECK(starved->outcome().failure->reason == kOutOfMemory);
    CHECK(error_of(here[0]) == kOutOfMemory);
    for (const Collectives::Work& work : here)
      CHECK(work->wait_for(30s));
    for (const Collectives::Work& work : there)
      CHECK(work->wait_for(30s));
    CHECK_THROWS(TransportError, kOutOfMemory,
                 group.at(0).collectives.barrier(call(9, nullptr, nullptr)));
    // The other rank sees it.
    const auto waiting = [&] {
      try {
        return error_of(group.at(1).collectives.barrier(call(9, nullptr, nullptr)));
      } catch (const Error& error) {
        return std::string(error.what());
      }
    }();
    CHECK(waiting.find("rank 0") != std::string::npos);
  }
}
