// Where reads wait for a thread, and callers for their tickets.
#pragma once

#include "io/read_plan.hpp"
#include "transport/clock.hpp"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace thinwire {

struct ReaderStats {       // of the tickets that have ended
  std::uint64_t bytes = 0; // of records, and between those that were read together
  std::uint64_t reads = 0;
  std::uint64_t merged = 0; // records that came with another's read
  std::uint64_t direct = 0; // reads around the page cache
  std::uint64_t waits = 0;  // calls of wait() whose reads had not ended
};

// Used by any thread.
class ReadQueue {
public:
  std::uint64_t submit(std::unique_ptr<Batch> batch); // returns the ticket
  std::uint64_t add_ended(const Batch& batch);        // whose reads have ended; returns the ticket
  void add_hints(const std::vector<Hint>& hints);

  struct Work {
    std::vector<Read*> reads;
    std::optional<Hint> hint; // only where there are no reads
    bool comes_back = false;  // soon: its thread has no reads under way that it might wait for
    bool empty() const { return reads.empty() && !hint; }
  };
  // Takes some of the oldest work. wait: until there is some. Returns false once the queue is
  // closed.
  bool take(Work& work, bool wait);
  // Settles reads that have ended alike; `how` as in Read::end. Nobody may touch them afterwards.
  void end(std::span<Read* const> reads, int how);
  void end(Read& read, int how);

  bool has_ended(std::uint64_t ticket); // every read of it
  // The same, after waiting. Has all threads take part until then.
  bool wait(std::uint64_t ticket, Clock::duration limit);

  // Cancels what no thread has taken; from now on nothing is accepted.
  void close();

  ReaderStats stats();

private:
  void take_reads(std::vector<Read*>& reads);
  void refuse_if_closed() const;
  void count(const Batch& batch);
  void settled(Batch& batch, std::size_t reads);

  std::mutex mutex_;
  ReaderStats stats_;
  std::condition_variable more_, ended_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Batch>> batches_; // whose reads have not ended
  std::deque<Batch*> untaken_;
  std::size_t coming_back_ = 0; // threads
  std::deque<Hint> hints_;
  std::uint64_t last_ticket_ = 0;
  bool closed_ = false;
};

} // namespace thinwire
