// Which operation a frame belongs to, and what happens where ranks do not agree on one.
#include "ring/engine.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cstring>

namespace thinwire {
namespace {

// A peer may be ahead by the windows of a few operations. More means that it is lost in space.
constexpr std::size_t kMostEarlyBytes = std::size_t{1} << 30;
constexpr std::size_t kMostRefused = 1024; // keys that are remembered

} // namespace

void Engine::send(int peer, Outgoing frame) {
  const PeerState& state = peers_[static_cast<std::size_t>(peer)];
  if (!state.gone && !state.left)
    open(peer).send(std::move(frame));
}

Link& Engine::open(int peer) {
  peers_[static_cast<std::size_t>(peer)].opened = true;
  return mesh_->open(peer);
}

std::size_t Engine::backlog(int peer) const {
  const Link* link = mesh_->find(peer);
  return link == nullptr ? 0 : link->backlog();
}

void Engine::begin(const std::shared_ptr<Operation>& operation) {
  const OperationKey key = operation->key;
  if (const auto refused = refused_.find(key); refused != refused_.end())
    return end_operation(operation, refused->second);
  if (is_broken_)
    return end_operation(operation, failure());
  for (int peer : operation->peers()) {
    const PeerState& state = peers_[static_cast<std::size_t>(peer)];
    if (state.left) { // others wait for this rank's part, which it cannot give
      active_[key] = operation;
      return lose(peer, "it closed its communicator before " + operation->description);
    }
    if (!state.gone)
      open(peer);
  }
  active_[key] = operation;
  operation->start(*this);
  if (const auto found = early_.find(key); found != early_.end()) {
    std::vector<Early> frames = std::move(found->second);
    early_.erase(found);
    for (Early& early : frames) {
      early_bytes_ -= early.header.payload_bytes;
      receive(early.peer, early.header, early.payload, std::move(early.keep));
    }
  }
}

std::byte* Engine::place(int peer, const FrameHeader& header) {
  if (header.group != group_ || header.codec != kPlanCodecId)
    return nullptr;
  const auto found = active_.find(key_of(header));
  if (found == active_.end() || disagrees(*found->second, header))
    return nullptr;
  std::byte* at = found->second->place(peer, header);
  if (at != nullptr)
    placed_[at] = found->second;
  return at;
}

void Engine::receive(int peer, const FrameHeader& header, const std::byte* payload, BlockRef keep) {
  placed_.erase(payload);
  if (is_broken_ && header.codec != kControlCodecId)
    return;
  if (header.group != group_)
    return lose(peer, "its frames are of another group");
  try {
    if (header.codec == kControlCodecId)
      control(peer, control_message(header, payload));
    else
      route(peer, header, payload, std::move(keep));
  } catch (const CorruptFrame& error) {
    lose(peer, error.what());
  }
}

void Engine::route(int peer, const FrameHeader& header, const std::byte* payload, BlockRef keep) {
  const OperationKey key = key_of(header);
  const auto found = active_.find(key);
  if (found != active_.end()) {
    Operation& operation = *found->second;
    operation.heard_from(peer, Clock::now());
    if (disagrees(operation, header))
      return tell(peer, {.kind = ControlKind::describe, .key = key, .text = operation.description});
    operation.receive(peer, header, payload, std::move(keep));
  } else if (!refused_.contains(key)) {
    keep_early(peer, header, payload, std::move(keep));
  }
}

void Engine::keep_early(int peer, const FrameHeader& header, const std::byte* payload,
                        BlockRef keep) {
  early_bytes_ += header.payload_bytes;
  if (early_bytes_ > kMostEarlyBytes)
    return lose(peer, "it sends values of operations that this rank has not begun");
  if (!keep && header.payload_bytes != 0) {
    keep = pool_.take(header.payload_bytes);
    std::memcpy(keep->data, payload, header.payload_bytes);
    payload = keep->data;
  }
  early_[key_of(header)].push_back({peer, header, payload, std::move(keep)});
}

// An aborted frame has the error's number in the plan's place.
bool Engine::disagrees(const Operation& operation, const FrameHeader& header) const {
  return (header.flags & kFlagAborted) == 0 && header.param != operation.plan_id;
}

// Where the group has broken, only who has left is still of interest.
void Engine::control(int peer, const ControlMessage& message) {
  PeerState& state = peers_[static_cast<std::size_t>(peer)];
  switch (message.kind) {
  case ControlKind::heartbeat:
    return;
  case ControlKind::goodbye:
    state.left = true;
    return;
  case ControlKind::failed:
    state.left = true; // these are its last words
    return hear_failure(peer, message);
  case ControlKind::describe:
    return compare(peer, message);
  case ControlKind::refused:
    return refuse(message.key, {message.number, message.text, message.culprit});
  case ControlKind::ask:
    if (active_.contains(message.key))
      tell(peer, {.kind = ControlKind::present, .key = message.key});
    return;
  case ControlKind::present:
    if (const auto inquiry = inquiries_.find(message.key); inquiry != inquiries_.end())
      inquiry->second.present.insert(peer);
    return;
  }
}

// A peer found that one of this rank's frames does not belong to what it is doing itself.
void Engine::compare(int peer, const ControlMessage& message) {
  const auto found = active_.find(message.key);
  if (found == active_.end() || found->second->description == message.text)
    return;
  const bool lower = rank() < peer;
  const auto view = [](int rank, const std::string& description) {
    return "rank " + std::to_string(rank) + " began " + description;
  };
  const std::string mine = view(rank(), found->second->description);
  const std::string theirs = view(peer, message.text);
  refuse(message.key, {ErrorNumber::invalid_argument,
                       "ranks disagree: " + (lower ? mine + ", " + theirs : theirs + ", " + mine)});
}

// The operation ends on all ranks, the group goes on.
void Engine::refuse(const OperationKey& key, const Failure& failure) {
  if (is_broken_ || !refused_.emplace(key, failure).second)
    return;
  tell_all({.kind = ControlKind::refused,
            .key = key,
            .number = failure.number,
            .culprit = failure.culprit,
            .text = failure.reason});
  if (const auto early = early_.find(key); early != early_.end()) {
    for (const Early& frame : early->second)
      early_bytes_ -= frame.header.payload_bytes;
    early_.erase(early);
  }
  if (const auto found = active_.find(key); found != active_.end()) {
    refused_operations_.emplace_back(found->second,
                                     failure); // ends when no frame refers to its memory
    active_.erase(found);
  }
  if (refused_.size() > kMostRefused)
    refused_.erase(refused_.begin());
}

void Engine::tell(int peer, const ControlMessage& message) {
  send(peer, control_frame(message, group_, rank(), pool_));
}

void Engine::tell_all(const ControlMessage& message, int except) {
  for (int peer = 0; peer < options_.ranks; ++peer)
    if (peer != except && peers_[static_cast<std::size_t>(peer)].opened)
      tell(peer, message);
}

} // namespace thinwire
