// What every link is to the engine: a way for frames to one peer and back. All of it is used by the
// progress thread alone.
#pragma once

#include "transport/block.hpp"
#include "transport/clock.hpp"
#include "wire/frame.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace thinwire {

// The most bytes of one frame's payload, on every link: what a receiver must be ready to hold.
inline constexpr std::size_t kMaxPayload = std::size_t{1} << 19;

// A frame on its way out. The link seals the header. `keep` holds the payload's memory until the
// last byte has been copied out of it.
struct Outgoing {
  FrameHeader header;
  const std::byte* payload = nullptr; // header.payload_bytes bytes
  BlockRef keep;
};

// A frame that came in, whole and checked. Its payload lies where FrameSink::place said, or in
// memory that `keep` holds, or, where `keep` is empty, in memory that is valid during the call of
// FrameSink::receive only.
struct Received {
  int peer;
  FrameHeader header;
  const std::byte* payload; // header.payload_bytes bytes
  BlockRef keep;
};

// The frame with a payload that outlives that call: a copy, unless its memory is held already.
inline Received hold(Received frame, BlockPool& pool) {
  if (!frame.keep && frame.header.payload_bytes != 0) {
    frame.keep = pool.take(frame.header.payload_bytes);
    std::memcpy(frame.keep->data, frame.payload, frame.header.payload_bytes);
    frame.payload = frame.keep->data;
  }
  return frame;
}

// Who gets what arrives.
class FrameSink {
public:
  // Where the payload of a frame may be put while it arrives: header.payload_bytes bytes that stay
  // valid until `receive` or the link's end. Null: the link finds memory. The header passed every
  // check but the checksum.
  virtual std::byte* place(int peer, const FrameHeader& header) = 0;
  virtual void receive(Received frame) = 0;
  // The link is of no more use: the peer closed it, it failed, or what arrived was no frame. Called
  // once, and never from inside Link::send.
  virtual void lost(int peer, const std::string& reason) = 0;

protected:
  ~FrameSink() = default;
};

struct LinkStats {
  std::string kind;   // "tcp", "shm", "inproc", "shaped tcp" ...
  std::string detail; // for people: addresses, interface, number of sockets
  std::uint64_t sent_bytes = 0, received_bytes = 0; // headers included
  std::uint64_t sent_frames = 0, received_frames = 0;
  std::uint64_t retransmits = 0; // TCP_INFO, summed over sockets
  double rtt_seconds = 0;        // TCP_INFO, smoothed, the least over sockets; 0 where unknown
  double busy_seconds = 0;       // time in which something was queued: rate = sent / busy
};

class Link {
public:
  explicit Link(int peer) : peer_(peer) {}
  virtual ~Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  int peer() const { return peer_; }

  // Queues a frame. Neither waits nor calls the sink. Frames of one link may overtake each other.
  virtual void send(Outgoing frame) = 0;
  // Moves what can be moved without waiting, both ways; frames that came in go to the sink. Returns
  // whether anything moved. Descriptors that are to wake the engine are in its poller.
  virtual bool progress() = 0;
  // Bytes that `send` took and that neither the kernel nor the peer has taken yet.
  virtual std::size_t backlog() const = 0;
  // Forgets frames that have not begun to leave, and from then on refers to no memory but its own:
  // what is half sent is copied, what is half received is taken elsewhere.
  virtual void detach() = 0;
  // When any byte last came in or went out.
  virtual Clock::time_point last_received() const = 0;
  virtual Clock::time_point last_sent() const = 0;
  // When `progress` must be called again although no descriptor says so.
  virtual Clock::time_point next_event() const { return Clock::time_point::max(); }
  virtual LinkStats stats() const = 0;

private:
  int peer_;
};

} // namespace thinwire
