// A link through memory that two ranks share: two rings of frames, one each way. Between processes
// the memory is a memfd, between threads (links="inproc") the HostPool.
#pragma once

#include "transport/link.hpp"
#include "transport/poller.hpp"

#include <deque>
#include <memory>
#include <span>

namespace thinwire {

// The shared memory. Its creator sizes and initialises it; nothing of it outlives its two users,
// crashed or not.
class SharedSegment {
public:
  static std::size_t bytes();
  // A new memfd, sealed against resizing. Throws TransportError.
  static Descriptor make_memfd();
  // Throws TransportError where the descriptor is no segment of this layout.
  static std::shared_ptr<SharedSegment> map(int memfd, bool creator);
  static std::shared_ptr<SharedSegment> in_pool();
  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  struct Ring; // one direction
  Ring& ring(int direction) const;

private:
  SharedSegment(std::byte* memory, bool mapped) : memory_(memory), mapped_(mapped) {}
  std::byte* memory_;
  bool mapped_;
};

class ShmLink final : public Link {
public:
  // `first` is true on one side and false on the other: who writes which ring. `peer_waker` is the
  // eventfd of the peer's engine. `kind` is "shm" or "inproc".
  ShmLink(int peer, FrameSink& sink, std::shared_ptr<SharedSegment> segment, bool first,
          std::shared_ptr<const Descriptor> peer_waker, std::string kind);

  void send(Outgoing frame) override;
  bool progress() override;
  std::size_t backlog() const override { return backlog_; }
  void detach() override;
  Clock::time_point last_received() const override { return last_received_; }
  Clock::time_point last_sent() const override { return last_sent_; }
  LinkStats stats() const override { return stats_; }

  // Before the engine waits it says so, then looks at `has_input` once more: from then on the peer
  // wakes it.
  void announce_sleep(bool sleeping);
  bool has_input() const;

private:
  bool push(const Outgoing& frame);
  bool flush();
  bool drain();

  FrameSink& sink_;
  std::shared_ptr<SharedSegment> segment_;
  SharedSegment::Ring *out_, *in_;
  std::shared_ptr<const Descriptor> peer_waker_;
  std::deque<Outgoing> queue_;
  std::size_t backlog_ = 0;
  Clock::time_point last_received_, last_sent_;
  LinkStats stats_;
};

} // namespace thinwire
