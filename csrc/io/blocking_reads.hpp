// Reads without io_uring: what is in the page cache is copied at once; for the rest there are
// threads, each of which waits for one read at a time.
#pragma once

#include "io/read_queue.hpp"
#include "io/reads_under_way.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace thinwire {

// Used by any thread. Threads are started as reads come, up to `most`.
class BlockingReads final : public ReadsUnderWay {
public:
  BlockingReads(unsigned most, ReadQueue& queue) : most_(most), queue_(queue) {}
  ~BlockingReads() override; // cancels what no thread has begun; waits for the rest

  void start(Read& read) override;
  std::size_t count() const override { return 0; }
  void collect(bool) override {}

private:
  bool hand_over(Read& read); // to a thread, if there are any
  void run();
  bool add_thread();

  const unsigned most_;
  ReadQueue& queue_;
  std::mutex mutex_;
  std::condition_variable changed_, room_;
  std::deque<Read*> reads_;
  std::size_t idle_ = 0; // threads without work
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

} // namespace thinwire
