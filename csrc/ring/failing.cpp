// How peers are found to be gone, and how the group ends.
#include "ring/engine.hpp"

#include <algorithm>
#include <cstdio>

namespace thinwire {
namespace {

using namespace std::chrono_literals;

// A rank that gives up closes its connections. Whom it blames arrives before, or on another link a
// little later.
constexpr Clock::duration kGrace = 50ms;
// How long a peer may take to say whether it has begun an operation.
constexpr Clock::duration kInquiry = 100ms;
// How long the last words may take to leave.
constexpr Clock::duration kLinger = 1s;

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", seconds);
  return text;
}

} // namespace

void Engine::lost(int peer, const std::string& reason) {
  PeerState& state = peers_[static_cast<std::size_t>(peer)];
  if (state.gone)
    return;
  state.gone = true;
  state.gone_since = Clock::now();
  state.gone_reason = reason;
}

void Engine::watch(Clock::time_point now) {
  liveness_.tick(now);
  for (int peer = 0; peer < options_.ranks && !is_broken_; ++peer)
    if (peers_[static_cast<std::size_t>(peer)].opened)
      watch_peer(peer, now);
  if (!is_broken_)
    watch_deadlines(now);
}

void Engine::watch_peer(int peer, Clock::time_point now) {
  const PeerState& state = peers_[static_cast<std::size_t>(peer)];
  if (state.gone) {
    if (state.left)
      lose_if_awaited(peer);
    else if (now - state.gone_since >= kGrace)
      lose(peer, state.gone_reason);
    return;
  }
  const Link* link = mesh_->find(peer);
  if (link == nullptr || state.left || !mesh_->is_connected(peer))
    return;
  if (liveness_.is_silent(*link, now))
    lose(peer, "nothing was heard of it for " + seconds_text(options_.timeout) + " (timeout)");
  else if (liveness_.needs_heartbeat(*link, now))
    tell(peer, {.kind = ControlKind::heartbeat});
}

// A rank that said goodbye is missed only by operations that still need it.
void Engine::lose_if_awaited(int peer) {
  for (const auto& [key, operation] : active_) {
    const std::vector<int> awaited = operation->awaited();
    if (std::find(awaited.begin(), awaited.end(), peer) != awaited.end())
      return lose(peer, "it closed its communicator in the middle of " + operation->description);
  }
}

void Engine::watch_deadlines(Clock::time_point now) {
  for (const auto& [key, operation] : active_) {
    if (now < operation->deadline)
      continue;
    const auto inquiry = inquiries_.find(key);
    if (inquiry == inquiries_.end()) {
      inquire(*operation, now);
    } else if (now >= inquiry->second.until) {
      const std::vector<int> late = absent(*operation);
      std::string who;
      for (int peer : late)
        who += (who.empty() ? "" : ", ") + std::to_string(peer);
      who = who.empty() ? "this rank's frames did not leave"
                        : (late.size() == 1 ? "rank " : "ranks ") + who + " did not answer";
      const auto limit = std::chrono::duration<double>(operation->deadline - operation->submitted);
      return fail({ErrorNumber::timeout, who + " within " + seconds_text(limit.count()) +
                                             " (deadline) in " + operation->description});
    }
  }
}

void Engine::inquire(const Operation& operation, Clock::time_point now) {
  inquiries_[operation.key] = {now + kInquiry, {}};
  tell_all({.kind = ControlKind::ask, .key = operation.key});
}

// The peers that have not begun an operation, as far as they can be asked.
std::vector<int> Engine::absent(const Operation& operation) const {
  std::vector<int> found;
  const std::set<int>& present = inquiries_.at(operation.key).present;
  for (int peer : operation.peers())
    if (!present.contains(peer))
      found.push_back(peer);
  return found.empty() ? operation.late() : found;
}

void Engine::lose(int peer, const std::string& reason) {
  fail({ErrorNumber::peer_lost, "rank " + std::to_string(peer) + " is lost: " + reason, peer});
}

// What another rank says has happened.
void Engine::hear_failure(int peer, const ControlMessage& message) {
  Failure failure{message.number, message.text, message.culprit};
  if (failure.culprit == peer) // it gave up by itself
    failure = {ErrorNumber::peer_lost, "rank " + std::to_string(peer) + " gave up: " + message.text,
               peer};
  else if (failure.culprit == rank())
    failure = {ErrorNumber::peer_lost,
               "rank " + std::to_string(peer) + " took this rank for lost: " + message.text, peer};
  fail(failure);
}

// Everything under way ends here, and everywhere else.
void Engine::fail(const Failure& failure) {
  if (is_broken_)
    return;
  is_broken_ = true;
  for (int peer = 0; peer < options_.ranks; ++peer)
    if (Link* link = mesh_->find(peer))
      link->detach();
  tell_all({.kind = ControlKind::failed,
            .number = failure.number,
            .culprit = failure.culprit,
            .text = failure.reason},
           failure.culprit);
  {
    const std::lock_guard lock(mutex_);
    failure_ = failure;
    changed_.notify_all();
  }
  early_.clear();
  placed_.clear();
  end_all(failure);
}

void Engine::end_all(const Failure& failure) {
  {
    const std::lock_guard lock(mutex_);
    for (const std::shared_ptr<Operation>& operation : submitted_)
      active_[operation->key] = operation;
    submitted_.clear();
  }
  for (const auto& [operation, reason] : refused_operations_)
    end_operation(operation, reason);
  refused_operations_.clear();
  for (const auto& [key, operation] : std::exchange(active_, {}))
    end_operation(operation, failure);
}

// Ends what is left, and waits a little until the last words have left and the peers have closed:
// closing with unread input would make the kernel discard what the peers have not read yet.
void Engine::leave() {
  if (!is_broken_) {
    for (int peer = 0; peer < options_.ranks; ++peer)
      if (Link* link = mesh_->find(peer); link && !active_.empty())
        link->detach();
    tell_all({.kind = ControlKind::goodbye}); // after it: detaching forgets what has not left
    end_all({ErrorNumber::transport, "this communicator was closed"});
  }
  is_broken_ = true; // what still comes in is dropped
  mesh_->stop_listening();
  const Clock::time_point limit = Clock::now() + std::min(kLinger, timeout_ / 4);
  while (Clock::now() < limit && !has_left()) {
    const bool moved = poller_.wait(Clock::now() + 1ms) > 0;
    if (!mesh_->progress() && !moved)
      poller_.wait(std::min(limit, Clock::now() + 5ms));
  }
}

// Whether every link is either closed by the peer or of no more use to it.
bool Engine::has_left() const {
  for (int peer = 0; peer < options_.ranks; ++peer) {
    const PeerState& state = peers_[static_cast<std::size_t>(peer)];
    const Link* link = mesh_->find(peer);
    if (link != nullptr && !state.gone && !(state.left && link->backlog() == 0))
      return false;
  }
  return true;
}

} // namespace thinwire
