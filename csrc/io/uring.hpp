// A ring of reads that the kernel carries out at the same time (io_uring; Axboe, "Efficient IO with
// io_uring", 2019), by system calls alone.
#pragma once

#include "io/uring_abi.hpp"
#include "transport/descriptor.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <sys/uio.h>

namespace thinwire {

// Used by the thread that made it, and by no other. Not more than `entries` reads may be under way.
class Uring {
public:
  explicit Uring(unsigned entries); // throws NotBuilt, which says why there can be none

  // Why no ring can be had in this process; empty where one can: a container's rules may forbid it.
  static std::string why_not();

  // Queues a read; `memory` stays as it is until the read has ended.
  void read(int fd, std::span<const iovec> memory, std::uint64_t offset, std::uint64_t tag);
  // Hands the kernel what is queued and waits until `least` reads have ended. Throws NotBuilt if
  // the kernel refuses.
  void enter(unsigned least);
  // Calls end(tag, result) for each read that has ended; result: bytes, or -errno.
  template <class End> void collect(End end) {
    std::uint32_t head = *completion_head_;
    const std::uint32_t tail = completion_tail();
    for (; head != tail; ++head) {
      const uring::Completion done = completions_[head & completion_mask_];
      release_completion(head + 1); // first, because `end` may queue another read
      end(done.tag, done.result);
    }
  }

private:
  class Mapping { // memory shared with the kernel; a child of a fork does not get it
  public:
    Mapping(int fd, std::uint64_t offset, std::size_t bytes);
    ~Mapping();
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    template <class T> T* at(std::size_t offset) const {
      return reinterpret_cast<T*>(static_cast<std::byte*>(address_) + offset);
    }

  private:
    void* address_;
    std::size_t bytes_;
  };

  Uring(uring::Parameters parameters, unsigned entries);
  uring::Submission& next_submission();
  void nop();
  std::uint32_t completion_tail() const;
  void release_completion(std::uint32_t head);

  Descriptor fd_;
  Mapping rings_, entries_;
  std::uint32_t submission_mask_, completion_mask_;
  std::uint32_t *submission_tail_, *submission_order_;
  std::uint32_t *completion_head_, *completion_tail_;
  uring::Submission* submissions_;
  uring::Completion* completions_;
  std::uint32_t queued_ = 0;
};

} // namespace thinwire
