#include "transport/frame_writer.hpp"

namespace thinwire {
namespace {

// Enough to make a system call cheap, and not so much that one socket hoards what another could
// send.
constexpr std::size_t kBatchBytes = 256 * 1024;

} // namespace

void FrameWriter::load(FrameQueue& queue) {
  batch_used_ = parts_used_ = next_frame_ = next_part_ = 0;
  std::size_t bytes = 0;
  while (!queue.empty() && batch_used_ < kMostFrames) {
    bytes += frame_bytes(queue.front().header);
    if (batch_used_ > 0 && bytes > kBatchBytes)
      break;
    Frame& frame = batch_[batch_used_++];
    frame.out = queue.pop();
    add(frame);
  }
}

void FrameWriter::add(Frame& frame) {
  FrameHeader& header = frame.out.header;
  seal_header(header, frame.out.payload);
  add_part(&header, kHeaderBytes);
  if (header.payload_bytes > 0)
    add_part(frame.out.payload, header.payload_bytes);
  if (tags_) {
    frame.tag = tags_->next(header, frame.out.payload);
    add_part(frame.tag.data(), kTagBytes);
  }
  frame.last_part = parts_used_ - 1;
}

void FrameWriter::add_part(const void* data, std::size_t bytes) {
  parts_[parts_used_++] = {const_cast<void*>(data), bytes};
}

Stream::Result FrameWriter::write(Stream& stream) {
  const Stream::Result result =
      stream.write(std::span(parts_).subspan(next_part_, parts_used_ - next_part_));
  advance(result.bytes);
  return result;
}

void FrameWriter::advance(std::size_t bytes) {
  while (bytes > 0) {
    iovec& part = parts_[next_part_];
    if (bytes < part.iov_len) {
      part.iov_base = static_cast<std::byte*>(part.iov_base) + bytes;
      part.iov_len -= bytes;
      return;
    }
    bytes -= part.iov_len;
    if (batch_[next_frame_].last_part == next_part_++) {
      batch_[next_frame_++].out.keep = {};
      ++frames_;
    }
  }
}

// All of it, headers and tags too: then nothing but the iovecs needs to be moved.
void FrameWriter::detach() {
  std::vector<std::byte> copies;
  for (std::size_t i = next_part_; i < parts_used_; ++i) {
    const auto* data = static_cast<const std::byte*>(parts_[i].iov_base);
    copies.insert(copies.end(), data, data + parts_[i].iov_len);
  }
  copies_ = std::move(copies);
  std::byte* at = copies_.data();
  for (std::size_t i = next_part_; i < parts_used_; ++i) {
    parts_[i].iov_base = at;
    at += parts_[i].iov_len;
  }
  for (std::size_t i = next_frame_; i < batch_used_; ++i)
    batch_[i].out.keep = {};
}

void FrameWriter::drop() {
  for (std::size_t i = next_frame_; i < batch_used_; ++i)
    batch_[i].out = {};
  batch_used_ = parts_used_ = next_frame_ = next_part_ = 0;
}

} // namespace thinwire
