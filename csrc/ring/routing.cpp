// Which operation a frame belongs to, and what happens where ranks do not agree on one.
#include "ring/engine.hpp"

#include "core/error.hpp"

namespace thinwire {
namespace {

// A peer may be ahead by the windows of a few operations. More means that it is lost in space.
constexpr std::size_t kMostEarlyBytes = std::size_t{1} << 30;
constexpr std::size_t kMostRefused = 1024; // keys that are remembered

} // namespace

// A rank that has left still hears what became of its windows.
void Engine::send(int peer, Outgoing frame) {
  const PeerState& state = peers_[static_cast<std::size_t>(peer)];
  if (state.gone || (state.left && frame.header.codec != kWindowCodecId))
    return;
  if (is_in_window(frame.header))
    windows_.note(peer, frame);
  mesh_->open(peer).send(std::move(frame));
}

std::size_t Engine::backlog(int peer) const {
  const Link* link = mesh_->find(peer);
  return link == nullptr ? 0 : link->backlog();
}

void Engine::begin(const std::shared_ptr<Operation>& operation) {
  const OperationKey key = operation->key;
  if (const auto refused = refused_.find(key); refused != refused_.end())
    return end_operation(operation, &refused->second);
  if (is_broken_)
    return end_operation(operation, &*failure_);
  for (int peer : operation->peers()) {
    const PeerState& state = peers_[static_cast<std::size_t>(peer)];
    if (state.left) { // others wait for this rank's part, which it cannot give
      active_[key] = operation;
      return lose(peer, "it closed its communicator before " + operation->description);
    }
    if (!state.gone)
      mesh_->open(peer);
  }
  active_[key] = operation;
  operation->start(*this);
  if (const auto found = early_.find(key); found != early_.end()) {
    std::vector<Received> frames = std::move(found->second);
    early_.erase(found);
    for (Received& frame : frames) {
      early_bytes_ -= frame.header.payload_bytes;
      frame.header.sender = static_cast<std::uint32_t>(rank()); // for whom what follows has waited
      receive(std::move(frame));
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
    placed_[at] = {peer, found->second};
  return at;
}

void Engine::receive(Received frame) {
  const int peer = frame.peer;
  const bool is_control = frame.header.codec == kControlCodecId;
  const bool is_about_window = frame.header.codec == kWindowCodecId;
  placed_.erase(frame.payload);
  if (is_broken_ && !is_control && !is_about_window)
    return;
  if (frame.header.group != group_)
    return lose(peer, "its frames are of another group");
  try {
    if ((is_about_window || is_in_window(frame.header)) && !is_local(peer))
      corrupt_frame("only ranks that share memory have windows");
    if (is_control)
      control(peer, control_message(frame.header, frame.payload));
    else if (is_about_window)
      windows_.hear(peer, about_window(frame.header, frame.payload));
    else if (is_in_window(frame.header) && !frame.keep) // it comes for the first time
      route(windows_.hold(std::move(frame)));
    else
      route(std::move(frame));
  } catch (const CorruptFrame& error) {
    lose(peer, error.what());
  } catch (const CudaError& error) {
    fail({ErrorNumber::cuda, error.what(), rank()});
  }
}

void Engine::route(Received frame) {
  const OperationKey key = key_of(frame.header);
  if (frame.header.sender >= peers_.size())
    corrupt_frame("there is no rank " + std::to_string(frame.header.sender));
  const auto found = active_.find(key);
  if (found != active_.end()) {
    Operation& operation = *found->second;
    operation.heard_from(frame.peer, static_cast<int>(frame.header.sender), Clock::now());
    if (disagrees(operation, frame.header))
      return tell(frame.peer,
                  {.kind = ControlKind::describe, .key = key, .text = operation.description});
    if (is_in_window(frame.header) && !operation.reads_windows())
      corrupt_frame("its values lie on a device, and this rank's of the same operation do not; "
                    "network={'cuda_ipc': False} lets both go on");
    operation.receive(std::move(frame));
  } else if (!refused_.contains(key)) {
    keep_early(std::move(frame));
  }
}

void Engine::keep_early(Received frame) {
  early_bytes_ += frame.header.payload_bytes;
  if (early_bytes_ > kMostEarlyBytes)
    return lose(frame.peer, "it sends values of operations that this rank has not begun");
  const OperationKey key = key_of(frame.header);
  early_[key].push_back(hold(std::move(frame), pool_));
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
    windows_.left(peer);
    return;
  case ControlKind::failed:
    state.left = true; // these are its last words
    windows_.left(peer);
    return hear_failure(peer, message);
  case ControlKind::describe:
    return compare(peer, message);
  case ControlKind::refused:
    return refuse(message.key, {message.number, message.text, message.culprit});
  case ControlKind::ask:
    return answer(peer, message);
  case ControlKind::present:
  case ControlKind::absent:
    return hear_answer(peer, message);
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
    for (const Received& frame : early->second)
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
    if (peer != except && mesh_->find(peer) != nullptr)
      tell(peer, message);
}

} // namespace thinwire
