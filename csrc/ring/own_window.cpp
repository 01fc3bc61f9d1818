#include "ring/own_window.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace thinwire {
namespace {

constexpr std::size_t kMostFrames = 4096; // at a time: looking for room stays cheap

constexpr std::size_t padded(std::size_t bytes) {
  return (bytes + kPlaceAlignment - 1) / kPlaceAlignment * kPlaceAlignment;
}

} // namespace

OwnWindow::OwnWindow(std::shared_ptr<Device> device, std::uint32_t number, std::size_t bytes)
    : device_(std::move(device)), number_(number), bytes_(padded(bytes)),
      shared_(device_->share(bytes_)) {}

BlockRef OwnWindow::take(std::size_t payload_bytes, std::shared_ptr<std::size_t> in_use) {
  const std::size_t bytes = padded(kHeaderBytes + payload_bytes);
  const std::size_t offset = frames_.size() < kMostFrames ? find_room(bytes) : bytes_;
  if (offset == bytes_)
    return {};
  const WindowPlace place{.window = number_, .offset = offset, .payload_bytes = payload_bytes};
  ++*in_use;
  Frame& frame = frames_
                     .try_emplace(offset, static_cast<BlockOwner&>(*this), shared_.memory + offset,
                                  bytes, place, std::move(in_use))
                     .first->second;
  used_ += bytes;
  next_ = offset + bytes;
  return BlockRef(frame.block);
}

// The first gap behind the last frame that is great enough: the oldest frames are read first.
std::size_t OwnWindow::find_room(std::size_t bytes) const {
  for (std::size_t begin : {next_, std::size_t{0}})
    for (auto used = frames_.lower_bound(begin);; ++used) {
      const std::size_t end = used == frames_.end() ? bytes_ : used->first;
      if (end - begin >= bytes)
        return begin;
      if (used == frames_.end())
        break;
      begin = used->first + used->second.block.bytes;
    }
  return bytes_;
}

std::size_t OwnWindow::offset_of(const Block& block) const {
  return static_cast<std::size_t>(block.data - shared_.memory);
}

Outgoing OwnWindow::frame(FrameHeader header, BlockRef place) {
  const WindowPlace& at = frames_.at(offset_of(*place)).place;
  header.codec = kInWindowCodecId;
  header.payload_bytes = sizeof at;
  return {header, reinterpret_cast<const std::byte*>(&at), std::move(place)};
}

void OwnWindow::sent(int peer, const WindowPlace& place) {
  frames_.at(place.offset).readers.push_back(peer);
}

// The last of those who make or send it is done with it.
void OwnWindow::reclaim(Block& block) {
  const auto frame = frames_.find(offset_of(block));
  frame->second.is_held = false;
  drop_read(frame);
}

void OwnWindow::drop_read(Frames::iterator frame) {
  if (frame->second.is_held || !frame->second.readers.empty())
    return;
  --*frame->second.in_use;
  used_ -= frame->second.block.bytes;
  frames_.erase(frame);
}

void OwnWindow::opened(int peer) {
  const auto reader = readers_.find(peer);
  if (reader == readers_.end() || reader->second != Reader::asked)
    corrupt_frame("it opened a window that it was not offered");
  reader->second = Reader::open;
}

void OwnWindow::refused(int peer, const std::string& reason) {
  const auto reader = readers_.find(peer);
  if (reader == readers_.end() || reader->second != Reader::asked)
    corrupt_frame("it refused a window that it was not offered");
  reader->second = Reader::refused;
  refusals_[peer] = reason;
}

void OwnWindow::released(int peer, std::size_t offset) {
  const auto frame = frames_.find(offset);
  if (frame == frames_.end() || std::erase(frame->second.readers, peer) == 0)
    corrupt_frame("it released a frame that it was not sent");
  drop_read(frame);
}

void OwnWindow::closed(int peer) {
  if (const auto reader = readers_.find(peer); reader != readers_.end())
    reader->second = Reader::closed;
  for (auto frame = frames_.begin(); frame != frames_.end();) {
    const auto here = frame++;
    if (std::erase(here->second.readers, peer) != 0)
      drop_read(here);
  }
}

bool OwnWindow::is_open_to(int peer) const {
  const auto reader = readers_.find(peer);
  return reader != readers_.end() && reader->second == Reader::open;
}

bool OwnWindow::may_be_read_by(int peer) const {
  const auto reader = readers_.find(peer);
  return reader != readers_.end() &&
         (reader->second == Reader::asked || reader->second == Reader::open);
}

std::vector<int> OwnWindow::unanswered() const {
  std::vector<int> found;
  for (const auto& [peer, reader] : readers_)
    if (reader == Reader::asked)
      found.push_back(peer);
  return found;
}

std::string OwnWindow::refusal(int peer) const {
  const auto found = refusals_.find(peer);
  return found == refusals_.end() ? "" : found->second;
}

void OwnWindow::end() {
  const bool is_read = std::any_of(readers_.begin(), readers_.end(),
                                   [this](const auto& r) { return may_be_read_by(r.first); });
  if (!is_read)
    device_->unshare(shared_.memory);
}

} // namespace thinwire
