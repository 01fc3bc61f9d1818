// Work on several threads: all of it done, once each, and what goes wrong in it.
#include "check.hpp"
#include "core/parallel.hpp"

#include <atomic>
#include <chrono>
#include <sched.h>
#include <stdexcept>
#include <thread>

namespace {

using namespace thinwire;

TEST(every_task_runs_once) {
  for (const unsigned threads : {0U, 1U, 2U, 7U})
    for (const std::size_t tasks : {0U, 1U, 2U, 1000U}) {
      std::vector<std::atomic<int>> calls(tasks);
      parallel_for(tasks, threads, [&](std::size_t task) { ++calls[task]; });
      for (const auto& count : calls)
        CHECK(count == 1);
    }
}

TEST(no_threads_for_cores_that_belong_to_others) {
  cpu_set_t before, one;
  CHECK(::sched_getaffinity(0, sizeof before, &before) == 0);
  CHECK(thread_count(0) == static_cast<unsigned>(CPU_COUNT(&before)));
  CPU_ZERO(&one);
  CPU_SET(::sched_getcpu(), &one);
  CHECK(::sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(thread_count(0) == 1);
  ::sched_setaffinity(0, sizeof before, &before);
}

TEST(a_failure_ends_the_work_and_is_thrown_again) {
  std::atomic<std::size_t> begun = 0;
  CHECK_THROWS(std::runtime_error, "task 3", parallel_for(100'000, 2, [&](std::size_t task) {
                 ++begun;
                 if (task == 3)
                   throw std::runtime_error("task 3");
                 // The failing thread may have to wait for its turn: leave it seconds.
                 std::this_thread::sleep_for(std::chrono::microseconds(100));
               }));
  CHECK(begun < 100'000);
}

} // namespace
