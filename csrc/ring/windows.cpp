#include "ring/windows.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cstring>

namespace thinwire {

FrameHeader whole_header(const FrameHeader& header, const std::byte* payload) {
  if (!is_in_window(header))
    return header;
  WindowPlace place;
  std::memcpy(&place, payload, sizeof place);
  FrameHeader whole = header;
  whole.codec = kPlanCodecId;
  whole.payload_bytes = place.payload_bytes;
  return whole;
}

void Windows::use(const std::shared_ptr<Device>& device) {
  if (bytes_ != 0)
    theirs_.use(device);
}

OwnWindow* Windows::find(const Device& device) const {
  const auto found = std::find_if(own_.begin(), own_.end(),
                                  [&](const auto& own) { return &own->device() == &device; });
  return found == own_.end() ? nullptr : found->get();
}

// Null where the device cannot share memory: then no other is asked.
OwnWindow* Windows::make(const std::shared_ptr<Device>& device) {
  if (OwnWindow* known = find(*device))
    return known;
  if (!failure_.empty())
    return nullptr;
  try {
    const auto number = static_cast<std::uint32_t>(own_.size());
    return own_.emplace_back(std::make_unique<OwnWindow>(device, number, bytes_)).get();
  } catch (const CudaError& error) {
    failure_ = error.what();
    return nullptr;
  }
}

BlockRef Windows::take(const std::shared_ptr<Device>& device, std::span<const int> peers,
                       std::size_t payload_bytes, std::shared_ptr<std::size_t> in_use) {
  if (bytes_ == 0 || peers.empty() ||
      !std::all_of(peers.begin(), peers.end(), [this](int p) { return can_read(p); }))
    return {};
  OwnWindow* window = make(device);
  if (window == nullptr)
    return {};
  bool is_open = true;
  for (int peer : peers) {
    if (!window->was_offered(peer)) {
      window->offered(peer);
      tell_of(*window, peer);
    }
    is_open &= window->is_open_to(peer);
  }
  return is_open ? window->take(payload_bytes, std::move(in_use)) : BlockRef{};
}

bool Windows::is_roomy(const Device& device) const {
  const OwnWindow* window = find(device);
  return window == nullptr || window->is_roomy();
}

bool Windows::is_open_to(int peer, const Device& device) const {
  const OwnWindow* window = find(device);
  return window != nullptr && window->is_open_to(peer);
}

Outgoing Windows::frame(const Device& device, const FrameHeader& header, BlockRef place) {
  return find(device)->frame(header, std::move(place));
}

void Windows::note(int peer, const Outgoing& frame) {
  WindowPlace place;
  std::memcpy(&place, frame.payload, sizeof place);
  own_[place.window]->sent(peer, place);
  const auto i = static_cast<std::size_t>(peer);
  sent_.resize(std::max(sent_.size(), i + 1));
  ++sent_[i].frames;
  sent_[i].bytes += kHeaderBytes + place.payload_bytes;
}

void Windows::hear(int peer, const AboutWindow& message) {
  if (message.kind == WindowMessage::offer)
    return theirs_.offered(peer, message.window, message.number, message.text);
  if (message.window >= own_.size())
    corrupt_frame("it speaks of a window that this rank does not have");
  OwnWindow& own = *own_[message.window];
  switch (message.kind) {
  case WindowMessage::opened:
    return own.opened(peer);
  case WindowMessage::refused:
    return own.refused(peer, message.text);
  case WindowMessage::released:
    return own.released(peer, message.number);
  default:
    return own.closed(peer);
  }
}

void Windows::tell_of(const OwnWindow& window, int peer) {
  tell(wires_, peer, {WindowMessage::offer, window.number(), window.bytes(), window.handle()});
}

void Windows::offer_again() {
  for (const auto& own : own_)
    for (int peer : own->unanswered())
      tell_of(*own, peer);
}

void Windows::gone(int peer) {
  gone_.insert(peer);
  theirs_.end(peer);
  for (const auto& own : own_)
    own->closed(peer);
}

bool Windows::may_be_read_by(int peer) const {
  return std::any_of(own_.begin(), own_.end(),
                     [peer](const auto& own) { return own->may_be_read_by(peer); });
}

void Windows::end() noexcept {
  try {
    theirs_.end_all();
  } catch (const std::bad_alloc&) { // owners see this rank's links closed instead
  } catch (const PoolExhausted&) {
  }
  for (const auto& own : own_)
    own->end();
}

WindowStats Windows::stats(int peer) const {
  const auto i = static_cast<std::size_t>(peer);
  WindowStats found = i < sent_.size() ? sent_[i] : WindowStats{};
  found.reason = wires_.is_local(peer) ? failure_ : "";
  bool is_open = false;
  for (const auto& own : own_) {
    is_open |= own->is_open_to(peer);
    if (found.reason.empty())
      found.reason = own->refusal(peer);
  }
  found.state = is_open ? "open" : found.reason.empty() ? "" : "refused";
  return found;
}

} // namespace thinwire
