#include "transport/frame_reader.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

namespace thinwire {
namespace {

constexpr std::size_t kStaging = 64 * 1024;
// From here on a payload that has not arrived whole is worth a system call of its own.
constexpr std::size_t kLarge = 4096;
// Read behind a large payload: enough for its tag and the next header, and little to copy where
// the next payload is large too.
constexpr std::size_t kAhead = 4096;

} // namespace

FrameReader::FrameReader(int peer, FrameSink& sink, BlockPool& pool,
                         const std::optional<Blake3Key>& key)
    : peer_(peer), sink_(sink), pool_(pool), tag_bytes_(key ? kTagBytes : 0),
      staging_(new std::byte[kStaging]) {
  if (key)
    tags_.emplace(*key);
}

FrameReader::Turn FrameReader::read(Stream& stream, std::size_t most) {
  Turn turn;
  while (turn.bytes < most && !turn.drained && !turn.ended) {
    const std::size_t bytes = read_once(stream, turn);
    turn.bytes += bytes;
    if (bytes > 0)
      hand_over();
  }
  return turn;
}

std::size_t FrameReader::read_once(Stream& stream, Turn& turn) {
  std::array<iovec, 2> parts;
  std::size_t used = 0, wanted = 0;
  const std::size_t missing = in_large() ? header_.payload_bytes - arrived_ : 0;
  if (missing > 0)
    parts[used++] = {large_ + arrived_, missing};
  const std::size_t room = std::min(kStaging - end_, missing > 0 ? kAhead : kStaging);
  parts[used++] = {staging_.get() + end_, room};
  wanted = missing + room;

  const Stream::Result result = stream.read(std::span(parts).first(used));
  turn.ended = result.state == Stream::State::ended;
  turn.drained = result.bytes < wanted && !stream.has_buffered();
  const std::size_t to_large = std::min(missing, result.bytes);
  arrived_ += to_large;
  end_ += result.bytes - to_large;
  return result.bytes;
}

void FrameReader::hand_over() {
  while (in_large() ? finish_large() : take_staged_frame()) {
  }
  // What is left is the start of a small frame, or a tag: the rest must fit behind it.
  if (begin_ > 0)
    std::memmove(staging_.get(), staging_.get() + begin_, staged());
  end_ -= begin_;
  begin_ = 0;
}

bool FrameReader::take_staged_frame() {
  if (staged() < kHeaderBytes)
    return false;
  const std::byte* frame = staging_.get() + begin_;
  const FrameHeader header = read_header({frame, staged()});
  if (header.payload_bytes > kMaxPayload)
    corrupt_frame("it announces a payload of " + std::to_string(header.payload_bytes) +
                  " bytes, more than the " + std::to_string(kMaxPayload) + " that a link carries");
  const std::size_t whole = frame_bytes(header) + tag_bytes_;
  if (staged() < whole) {
    if (header.payload_bytes < kLarge)
      return false;
    begin_large(header);
    return true;
  }
  const std::byte* payload = frame + kHeaderBytes;
  verify(header, payload, payload + header.payload_bytes);
  begin_ += whole;
  if (std::byte* place = sink_.place(peer_, header)) {
    std::memcpy(place, payload, header.payload_bytes);
    payload = place;
  }
  ++frames_;
  sink_.receive({peer_, header, payload, {}});
  return true;
}

void FrameReader::begin_large(const FrameHeader& header) {
  header_ = header;
  large_ = sink_.place(peer_, header);
  if (!large_) {
    keep_ = pool_.take(header.payload_bytes);
    large_ = keep_->data;
  }
  arrived_ = std::min(staged() - kHeaderBytes, header.payload_bytes);
  std::memcpy(large_, staging_.get() + begin_ + kHeaderBytes, arrived_);
  begin_ += kHeaderBytes + arrived_;
}

bool FrameReader::finish_large() {
  if (arrived_ < header_.payload_bytes || staged() < tag_bytes_)
    return false;
  verify(header_, large_, staging_.get() + begin_);
  begin_ += tag_bytes_;
  ++frames_;
  sink_.receive({peer_, header_, std::exchange(large_, nullptr), std::move(keep_)});
  return true;
}

void FrameReader::detach() {
  if (!in_large() || keep_)
    return;
  keep_ = pool_.take(header_.payload_bytes);
  std::memcpy(keep_->data, large_, arrived_);
  large_ = keep_->data;
}

void FrameReader::verify(const FrameHeader& header, const std::byte* payload,
                         const std::byte* tag) {
  check_payload(header, payload);
  if (!tags_)
    return;
  const Tag expected = tags_->next(header, payload);
  if (!equal_in_constant_time(expected.data(), tag, kTagBytes))
    throw CorruptFrame("a frame's authentication tag does not match");
}

} // namespace thinwire
