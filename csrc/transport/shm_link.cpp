#include "transport/shm_link.hpp"

#include "core/error.hpp"
#include "pool/host_pool.hpp"
#include "transport/system.hpp"

#include <atomic>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sys/mman.h>
#include <sys/stat.h>

namespace thinwire {
namespace {

constexpr std::size_t kLine = 64;    // of the cache
constexpr std::size_t kRecord = 128; // records start at multiples of this: a header always fits
constexpr std::size_t kRingBytes = std::size_t{1088} << 10;
// Small frames go round in the first part only, which stays in the cache.
constexpr std::size_t kCachedBytes = std::size_t{512} << 10;
constexpr std::uint64_t kMagic = 0x3152474e49525754; // "TWRINGR1"
constexpr std::uint32_t kWrap = 0; // in the place of a frame's magic: go to the start

constexpr std::size_t padded(std::size_t bytes) {
  return (bytes + kRecord - 1) / kRecord * kRecord;
}
constexpr std::size_t kPayloadOffset = padded(kHeaderBytes);

std::size_t record_bytes(const FrameHeader& header) {
  return kPayloadOffset + padded(header.payload_bytes);
}

[[noreturn]] void wrong_segment() {
  throw TransportError("what the peer shares is not a segment of this release");
}

[[noreturn]] void overwritten() { throw TransportError("shared memory was overwritten"); }

} // namespace

// One direction. `head` and `tail` count bytes since the beginning and never wrap; a record is a
// header and a payload, each at a multiple of kRecord, and lies in one stretch.
struct SharedSegment::Ring {
  std::uint64_t magic = kMagic;
  alignas(kLine) std::atomic<std::uint64_t> head{0};        // written by the producer
  alignas(kLine) std::atomic<std::uint64_t> tail{0};        // written by the consumer
  alignas(kLine) std::atomic<std::uint32_t> asleep{0};      // the consumer wants to be woken
  alignas(kLine) std::atomic<std::uint32_t> out_of_room{0}; // the producer wants to be woken
  alignas(kLine) std::byte data[kRingBytes];
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(kRingBytes >= 2 * (kPayloadOffset + kMaxPayload),
              "a frame must always fit in the end");

std::size_t SharedSegment::bytes() { return 2 * sizeof(Ring); }

Descriptor SharedSegment::make_memfd() {
  Descriptor fd(::memfd_create("thinwire", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(bytes())) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    system_call_failed("making shared memory");
  return fd;
}

std::shared_ptr<SharedSegment> SharedSegment::map(int memfd, bool creator) {
  struct stat found = {};
  if (::fstat(memfd, &found) != 0 || found.st_size != static_cast<off_t>(bytes()))
    wrong_segment();
  void* memory =
      ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memfd, 0);
  if (memory == MAP_FAILED)
    system_call_failed("mapping shared memory");
  ::madvise(memory, bytes(), MADV_DONTFORK); // a child has no business here
  std::shared_ptr<SharedSegment> segment(new SharedSegment(static_cast<std::byte*>(memory), true));
  for (int direction : {0, 1}) {
    if (creator)
      new (&segment->ring(direction)) Ring;
    else if (segment->ring(direction).magic != kMagic)
      wrong_segment();
  }
  return segment;
}

std::shared_ptr<SharedSegment> SharedSegment::in_pool() {
  auto* memory = HostPool::shared().allocate(bytes(), kLine);
  std::shared_ptr<SharedSegment> segment(new SharedSegment(memory, false));
  for (int direction : {0, 1})
    new (&segment->ring(direction)) Ring;
  return segment;
}

SharedSegment::~SharedSegment() {
  if (mapped_)
    ::munmap(memory_, bytes());
  else
    HostPool::shared().free(memory_);
}

SharedSegment::Ring& SharedSegment::ring(int direction) const {
  return reinterpret_cast<Ring*>(memory_)[direction];
}

ShmLink::ShmLink(int peer, FrameSink& sink, std::shared_ptr<SharedSegment> segment, bool first,
                 std::shared_ptr<const Descriptor> peer_waker, std::string kind)
    : Link(peer), sink_(sink), segment_(std::move(segment)), out_(&segment_->ring(first ? 0 : 1)),
      in_(&segment_->ring(first ? 1 : 0)), peer_waker_(std::move(peer_waker)),
      last_received_(Clock::now()), last_sent_(last_received_) {
  stats_.kind = std::move(kind);
  stats_.detail = std::to_string(kRingBytes >> 20) + " MiB each way";
}

void ShmLink::send(Outgoing frame) {
  if (queue_.empty() && push(frame))
    return;
  backlog_ += frame_bytes(frame.header);
  queue_.push_back(std::move(frame));
}

bool ShmLink::progress() {
  const bool flushed = flush();
  return drain() || flushed;
}

void ShmLink::detach() {
  queue_.clear();
  backlog_ = 0;
}

// Copies a frame into the ring, unless there is no room.
bool ShmLink::push(const Outgoing& frame) {
  const std::size_t record = record_bytes(frame.header);
  std::uint64_t head = out_->head.load(std::memory_order_relaxed);
  const std::size_t position = head % kRingBytes;
  // Back to the start where the end of the ring is reached, or that of its first part. The latter
  // only if there is room for the record once the rest is given up.
  const bool wraps =
      position + record > kRingBytes || (position + record > kCachedBytes && record <= position);
  const std::size_t skipped = wraps ? kRingBytes - position : 0;
  const auto has_room = [&] {
    return head + skipped + record - out_->tail.load(std::memory_order_seq_cst) <= kRingBytes;
  };
  if (!has_room()) {
    // Asks to be woken, then looks again: the consumer may have made room in between.
    out_->out_of_room.store(1, std::memory_order_seq_cst);
    if (!has_room())
      return false;
  }
  if (skipped != 0) {
    std::memcpy(out_->data + head % kRingBytes, &kWrap, sizeof kWrap);
    head += skipped;
  }
  std::byte* at = out_->data + head % kRingBytes;
  std::memcpy(at, &frame.header, kHeaderBytes);
  if (frame.header.payload_bytes != 0)
    std::memcpy(at + kPayloadOffset, frame.payload, frame.header.payload_bytes);
  out_->head.store(head + record, std::memory_order_seq_cst);
  if (out_->asleep.load(std::memory_order_seq_cst) != 0 && out_->asleep.exchange(0) != 0)
    Waker::wake(peer_waker_->get());
  stats_.sent_bytes += frame_bytes(frame.header);
  ++stats_.sent_frames;
  last_sent_ = Clock::now();
  return true;
}

bool ShmLink::flush() {
  const std::size_t before = queue_.size();
  while (!queue_.empty() && push(queue_.front())) {
    backlog_ -= frame_bytes(queue_.front().header);
    queue_.pop_front();
  }
  return queue_.size() != before;
}

// Hands over what is there now. What comes meanwhile waits for the next turn: others must get
// theirs.
bool ShmLink::drain() {
  const std::uint64_t head = in_->head.load(std::memory_order_acquire);
  std::uint64_t tail = in_->tail.load(std::memory_order_relaxed);
  if (head == tail)
    return false;
  while (tail != head) {
    const std::size_t position = tail % kRingBytes, to_end = kRingBytes - position;
    const std::byte* at = in_->data + position;
    FrameHeader header;
    std::memcpy(&header, at, kHeaderBytes);
    const bool wraps = header.magic == kWrap;
    if (!wraps && (header.magic != kFrameMagic || header.payload_bytes > kMaxPayload))
      overwritten();
    const std::size_t taken = wraps ? to_end : record_bytes(header);
    if (taken > to_end || taken > head - tail)
      overwritten();
    if (!wraps) {
      sink_.receive({peer(), header, at + kPayloadOffset, {}});
      stats_.received_bytes += frame_bytes(header);
      ++stats_.received_frames;
    }
    tail += taken;
    in_->tail.store(tail, std::memory_order_seq_cst);
    if (in_->out_of_room.load(std::memory_order_seq_cst) != 0 && in_->out_of_room.exchange(0) != 0)
      Waker::wake(peer_waker_->get());
  }
  last_received_ = Clock::now();
  return true;
}

void ShmLink::announce_sleep(bool sleeping) {
  in_->asleep.store(sleeping ? 1 : 0, std::memory_order_seq_cst);
}

bool ShmLink::has_input() const {
  return in_->head.load(std::memory_order_seq_cst) != in_->tail.load(std::memory_order_relaxed);
}

} // namespace thinwire
