#include "io/uring.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

namespace thinwire {
namespace {

[[noreturn]] void refuse(const std::string& call, int error) {
  throw NotBuilt("io_uring cannot be used here: " + call + " failed: " + std::strerror(error) +
                 "; the kernel is too old, or a container's seccomp profile or "
                 "kernel.io_uring_disabled forbids it. engine=\"preadv\" works everywhere");
}

constexpr std::size_t kMostBytes = 1U << 30; // of one read; the length has 32 bits

// Newer kernels finish reads in the thread that waits for them, which is cheaper.
constexpr std::uint32_t kBestFlags = uring::kSetupSingleIssuer | uring::kSetupDeferTaskrun;

Descriptor set_up(uring::Parameters& parameters, unsigned entries) {
  for (const std::uint32_t flags : {kBestFlags, 0U}) {
    parameters = {};
    parameters.flags = flags;
    const long fd = ::syscall(uring::kSetupCall, entries, &parameters);
    if (fd >= 0)
      return Descriptor(static_cast<int>(fd));
    if (errno != EINVAL || flags == 0)
      refuse("io_uring_setup", errno);
  }
  __builtin_unreachable();
}

std::size_t ring_bytes(const uring::Parameters& p) {
  return std::max(p.submission_offsets.array + p.submissions * sizeof(std::uint32_t),
                  p.completion_offsets.completions + p.completions * sizeof(uring::Completion));
}

} // namespace

Uring::Mapping::Mapping(int fd, std::uint64_t offset, std::size_t bytes)
    : address_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
                      static_cast<off_t>(offset))),
      bytes_(bytes) {
  if (address_ == MAP_FAILED)
    refuse("mmap", errno);
  ::madvise(address_, bytes_, MADV_DONTFORK);
}

Uring::Mapping::~Mapping() { ::munmap(address_, bytes_); }

Uring::Uring(unsigned entries) : Uring(uring::Parameters{}, entries) {}

Uring::Uring(uring::Parameters p, unsigned entries)
    : fd_(set_up(p, entries)), rings_(fd_.get(), uring::kOffsetOfRings, ring_bytes(p)),
      entries_(fd_.get(), uring::kOffsetOfEntries, p.submissions * sizeof(uring::Submission)),
      submission_mask_(*rings_.at<std::uint32_t>(p.submission_offsets.mask)),
      completion_mask_(*rings_.at<std::uint32_t>(p.completion_offsets.mask)),
      submission_tail_(rings_.at<std::uint32_t>(p.submission_offsets.tail)),
      submission_order_(rings_.at<std::uint32_t>(p.submission_offsets.array)),
      completion_head_(rings_.at<std::uint32_t>(p.completion_offsets.head)),
      completion_tail_(rings_.at<std::uint32_t>(p.completion_offsets.tail)),
      submissions_(entries_.at<uring::Submission>(0)),
      completions_(rings_.at<uring::Completion>(p.completion_offsets.completions)) {
  if (!(p.features & uring::kFeatureCurrentPosition))
    refuse("io_uring_setup", ENOSYS);
}

// Some sandboxes let a process make a ring, but not use it: so one round trip is made.
std::string Uring::why_not() {
  try {
    Uring ring(1);
    ring.nop();
    ring.enter(1);
    return {};
  } catch (const NotBuilt& error) {
    return error.what();
  }
}

void Uring::read(int fd, std::span<const iovec> memory, std::uint64_t offset, std::uint64_t tag) {
  uring::Submission& entry = next_submission();
  const bool single = memory.size() == 1; // cheaper without a list
  const void* address = single ? memory[0].iov_base : memory.data();
  entry.operation = single ? uring::kRead : uring::kReadv;
  entry.fd = fd;
  entry.offset = offset;
  entry.address = reinterpret_cast<std::uint64_t>(address);
  entry.length =
      static_cast<std::uint32_t>(single ? std::min(memory[0].iov_len, kMostBytes) : memory.size());
  entry.tag = tag;
}

void Uring::nop() { next_submission().operation = uring::kNop; }

// The kernel looks at it only in enter().
uring::Submission& Uring::next_submission() {
  const std::uint32_t tail = *submission_tail_;
  const std::uint32_t index = tail & submission_mask_;
  submission_order_[index] = index;
  submissions_[index] = {};
  std::atomic_ref(*submission_tail_).store(tail + 1, std::memory_order_release);
  ++queued_;
  return submissions_[index];
}

void Uring::enter(unsigned least) {
  for (;;) {
    const long taken =
        ::syscall(uring::kEnterCall, fd_.get(), queued_, least, uring::kEnterGetEvents, nullptr, 0);
    if (taken >= 0) {
      queued_ -= static_cast<std::uint32_t>(taken);
      if (queued_ == 0)
        return;
    } else if (errno == EAGAIN || errno == EBUSY) {
      ::sched_yield(); // short of memory for the moment
    } else if (errno != EINTR) {
      refuse("io_uring_enter", errno);
    }
  }
}

std::uint32_t Uring::completion_tail() const {
  return std::atomic_ref(*completion_tail_).load(std::memory_order_acquire);
}

void Uring::release_completion(std::uint32_t head) {
  std::atomic_ref(*completion_head_).store(head, std::memory_order_release);
}

} // namespace thinwire
