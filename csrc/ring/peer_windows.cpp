#include "ring/peer_windows.hpp"

#include "core/error.hpp"
#include "ring/window_message.hpp"
#include "ring/windows.hpp"

#include <algorithm>
#include <cstring>

namespace thinwire {
namespace {

constexpr std::size_t kMostWindows = 64;                     // of all peers
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 32; // of one
constexpr std::size_t kMostHandle = 1024;

} // namespace

void PeerWindows::use(const std::shared_ptr<Device>& device) {
  if (std::find(devices_.begin(), devices_.end(), device) != devices_.end())
    return;
  devices_.push_back(device);
  if (devices_.size() == 1)
    for (auto& [name, window] : windows_)
      answer(name, window);
}

void PeerWindows::offered(int peer, std::uint32_t number, std::uint64_t bytes,
                          const std::string& handle) {
  if (windows_.size() >= kMostWindows || bytes > kMostBytes || handle.size() > kMostHandle)
    corrupt_frame("it offered a window that makes no sense");
  if (is_over_)
    return tell(wires_, peer, {WindowMessage::closed, number});
  const Name name(peer, number);
  const auto [window, is_new] = windows_.try_emplace(name, Window{bytes, handle});
  if (!is_new && (window->second.bytes != bytes || window->second.handle != handle))
    corrupt_frame("it offered two windows as one");
  if (!is_new)
    return; // the answer is on its way
  if (!devices_.empty())
    answer(name, window->second);
}

// Opens a window, and says how that went.
void PeerWindows::answer(const Name& name, Window& window) {
  const std::shared_ptr<Device>& device = devices_.front();
  try {
    window.opened.push_back({device, device->open(window.handle, window.bytes)});
  } catch (const CudaError& error) {
    tell(wires_, name.first, {WindowMessage::refused, name.second, 0, error.what()});
    return;
  }
  tell(wires_, name.first, {WindowMessage::opened, name.second});
}

const std::byte* PeerWindows::open(Window& window, const std::shared_ptr<Device>& device) {
  const auto found = std::find_if(window.opened.begin(), window.opened.end(),
                                  [&](const Opened& opened) { return opened.device == device; });
  if (found != window.opened.end())
    return found->memory;
  Opened& opened = window.opened.emplace_back(Opened{device, nullptr});
  try {
    opened.memory = device->open(window.handle, window.bytes);
  } catch (const CudaError&) { // the first one brings what lies there
  }
  return opened.memory;
}

Received PeerWindows::hold(Received frame) {
  WindowPlace place;
  if (frame.header.payload_bytes != sizeof place || (frame.header.flags & kFlagAborted) != 0)
    corrupt_frame("it does not say where in a window its values lie");
  std::memcpy(&place, frame.payload, sizeof place);
  const Name name(frame.peer, place.window);
  const auto window = windows_.find(name);
  if (window == windows_.end() || window->second.opened.empty() || window->second.is_ending)
    corrupt_frame("its values lie in a window that this rank has not opened");
  const std::uint64_t bytes = window->second.bytes;
  if (place.reserved != 0 || place.offset % kPlaceAlignment != 0 || place.offset >= bytes ||
      place.payload_bytes > kMaxPayload ||
      place.payload_bytes + kHeaderBytes > bytes - place.offset)
    corrupt_frame("its values lie outside of their window");
  Reading& reading = spare_reading();
  reading.name = name;
  reading.place = place;
  ++window->second.reading;
  frame.payload = reinterpret_cast<const std::byte*>(&reading.place);
  frame.keep = BlockRef(reading);
  return frame;
}

PeerWindows::Reading& PeerWindows::spare_reading() {
  if (spare_.empty())
    spare_.push_back(&readings_.emplace_back(static_cast<BlockOwner&>(*this)));
  Reading& reading = *spare_.back();
  spare_.pop_back();
  spare_.reserve(readings_.size()); // so that reclaim() takes no memory
  read_.reserve(read_.size() + readings_.size());
  return reading;
}

Received PeerWindows::bring(Received held, const std::shared_ptr<Device>& device) {
  const auto& reading = static_cast<const Reading&>(*held.keep);
  Window& window = windows_.at(reading.name);
  if (open(window, device) != nullptr)
    return held;
  const Opened& first = window.opened.front();
  const FrameHeader whole = whole_header(held.header, held.payload);
  BlockRef block = wires_.pool().take(whole.payload_bytes);
  first.device->copy_to_host(block->data, first.memory + reading.place.offset + kHeaderBytes,
                             whole.payload_bytes);
  const Device::Mark copied = first.device->mark();
  first.device->settle();
  static_cast<void>(first.device->passed(copied)); // throws where the copy failed
  return {held.peer, whole, block->data, block};
}

const std::byte* PeerWindows::frame(const Received& held, const std::shared_ptr<Device>& device) {
  const auto& reading = static_cast<const Reading&>(*held.keep);
  return open(windows_.at(reading.name), device) + reading.place.offset;
}

// The last work on a frame is done. Links are used later, from no destructor.
void PeerWindows::reclaim(Block& block) {
  auto& reading = static_cast<Reading&>(block);
  --windows_.at(reading.name).reading;
  read_.emplace_back(reading.name, reading.place.offset);
  spare_.push_back(&reading);
}

void PeerWindows::end(int peer) {
  for (auto& [name, window] : windows_)
    if (name.first == peer)
      window.is_ending = true;
}

void PeerWindows::end_all() {
  is_over_ = true;
  for (auto& [name, window] : windows_)
    window.is_ending = true;
  progress();
}

void PeerWindows::progress() {
  for (const auto& [name, offset] : read_)
    tell(wires_, name.first, {WindowMessage::released, name.second, offset});
  read_.clear();
  for (auto each = windows_.begin(); each != windows_.end();) {
    auto& [name, window] = *each;
    if (!window.is_ending || window.reading != 0) {
      ++each;
      continue;
    }
    for (Opened& opened : window.opened)
      if (opened.memory != nullptr)
        opened.device->close(std::exchange(opened.memory, nullptr));
    tell(wires_, name.first, {WindowMessage::closed, name.second});
    each = windows_.erase(each);
  }
}

} // namespace thinwire
