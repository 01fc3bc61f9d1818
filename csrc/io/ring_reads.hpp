// The reads of one thread, in an io_uring: what is in the page cache is copied when they are handed
// over, the rest when the disk has it.
#pragma once

#include "io/read_queue.hpp"
#include "io/reads_under_way.hpp"
#include "io/uring.hpp"

#include <optional>
#include <vector>

namespace thinwire {

// Belongs to the thread that calls it first. Where the ring fails, reads are made one by one.
class RingReads final : public ReadsUnderWay {
public:
  RingReads(unsigned depth, ReadQueue& queue);

  void start(Read& read) override;
  std::size_t count() const override { return slots_.size() - free_.size(); }
  void collect(bool wait) override;

private:
  struct Slot {
    Read* read = nullptr; // null: free
    Read::Memory memory;  // what the kernel reads into
  };

  bool has_ring();
  void submit(std::size_t slot);
  void go_on(std::size_t slot, std::int32_t result);
  void free(std::size_t slot, int ended);
  void give_up();

  ReadQueue& queue_;
  std::vector<Slot> slots_;
  std::vector<std::size_t> free_;
  std::optional<Uring> ring_; // made for the first read
  bool failed_ = false;
};

} // namespace thinwire
