// How peers are found to be gone, and how the group ends.
#include "ring/engine.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cstdio>
#include <new>

namespace thinwire {
namespace {

using namespace std::chrono_literals;

// A rank that gives up closes its connections. Whom it blames arrives before, or on another link a
// little later.
constexpr Clock::duration kGrace = 50ms;
// How long a peer may take to say whether it has begun an operation: its answer may stand behind
// values on a thin link.
constexpr Clock::duration kInquiry = 1s;
// How long the last words may take to leave.
constexpr Clock::duration kLinger = 1s;

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", seconds);
  return text;
}

std::string deadline_text(const Operation& operation) {
  return seconds_text(to_seconds(operation.deadline - operation.submitted));
}

std::string late_text(const std::set<int>& ranks) {
  if (ranks.empty())
    return "this rank's frames did not leave";
  std::string numbers;
  for (int rank : ranks)
    numbers += (numbers.empty() ? "" : ", ") + std::to_string(rank);
  return (ranks.size() == 1 ? "rank " : "ranks ") + numbers + " did not answer";
}

} // namespace

void Engine::lost(int peer, const std::string& reason) {
  PeerState& state = peers_[static_cast<std::size_t>(peer)];
  if (state.gone)
    return;
  state.gone = true;
  state.gone_since = Clock::now();
  state.gone_reason = reason;
  windows_.gone(peer);
  std::erase_if(placed_, [peer](const auto& placed) { return placed.second.peer == peer; });
}

void Engine::watch(Clock::time_point now) {
  liveness_.tick(now);
  for (int peer = 0; peer < options_.ranks && !is_broken_; ++peer)
    if (mesh_->find(peer) != nullptr)
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
  if (state.left || !mesh_->is_connected(peer))
    return;
  const Link& link = *mesh_->find(peer);
  if (liveness_.is_silent(link, now))
    lose(peer, "nothing was heard of it for " + seconds_text(options_.timeout) + " (timeout)");
  else if (liveness_.needs_heartbeat(link, now))
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
  for (const std::shared_ptr<Operation>& operation : unready_)
    if (now >= operation->deadline)
      return fail({ErrorNumber::timeout, "the values of rank " + std::to_string(rank()) +
                                             " were not ready within " + deadline_text(*operation) +
                                             " (deadline) in " + operation->description});
  for (const auto& [operation, reason] : refused_operations_)
    if (now >= operation->deadline)
      return fail({ErrorNumber::timeout, late_text(senders_to(*operation)) + " within " +
                                             deadline_text(*operation) + " (deadline) in " +
                                             operation->description +
                                             ", which was refused: " + reason.reason});
  for (const auto& [key, operation] : active_) {
    const auto inquiry = inquiries_.find(key);
    if (inquiry != inquiries_.end() && now >= inquiry->second.until)
      decide(*operation, now);
    else if (inquiry == inquiries_.end() && now >= operation->deadline)
      inquire(*operation, deadline_text(*operation), now);
    if (is_broken_)
      return;
  }
}

// Whose frames are half arrived in this operation's memory.
std::set<int> Engine::senders_to(const Operation& operation) const {
  std::set<int> senders;
  for (const auto& [at, placed] : placed_)
    if (placed.operation.get() == &operation)
      senders.insert(placed.peer);
  return senders;
}

// Asks whom this rank has a link to.
void Engine::inquire(const Operation& operation, const std::string& deadline,
                     Clock::time_point now) {
  std::set<int> asked;
  for (int peer = 0; peer < options_.ranks; ++peer) {
    const PeerState& state = peers_[static_cast<std::size_t>(peer)];
    if (mesh_->find(peer) != nullptr && !state.left && !state.gone)
      asked.insert(peer);
  }
  const bool is_complete = std::ssize(asked) == options_.ranks - 1;
  tell_all({.kind = ControlKind::ask, .key = operation.key, .text = deadline});
  inquiries_[operation.key] = {.deadline = deadline,
                               .until = now + kInquiry,
                               .is_complete = is_complete,
                               .unanswered = std::move(asked)};
}

// Passes the question on: the rank that asks may have no link to the one that is late. Whoever has
// one ends the group.
void Engine::answer(int peer, const ControlMessage& question) {
  if (is_broken_)
    return;
  const ControlKind kind = has_begun(question.key) ? ControlKind::present : ControlKind::absent;
  tell(peer, {.kind = kind, .key = question.key});
  const auto operation = active_.find(question.key);
  if (operation != active_.end() && !inquiries_.contains(question.key))
    inquire(*operation->second, question.text, Clock::now());
}

bool Engine::has_begun(const OperationKey& key) const {
  return active_.contains(key) || refused_.contains(key) ||
         std::find(recent_.begin(), recent_.end(), key) != recent_.end();
}

void Engine::hear_answer(int peer, const ControlMessage& message) {
  const auto found = inquiries_.find(message.key);
  if (found == inquiries_.end() || found->second.unanswered.erase(peer) == 0)
    return;
  Inquiry& inquiry = found->second;
  if (message.kind == ControlKind::absent)
    inquiry.absent.insert(peer);
  if (!inquiry.unanswered.empty())
    return;
  // A rank that none of these has a link to may take as long to be found.
  const bool others_may_know = inquiry.absent.empty() && !inquiry.is_complete;
  inquiry.until = Clock::now() + (others_may_know ? 2 * kInquiry : Clock::duration::zero());
}

// Who has not begun, or does not even answer, is late. Where there is no such rank, the peers that
// are awaited are.
void Engine::decide(const Operation& operation, Clock::time_point now) {
  const auto inquiry = inquiries_.extract(operation.key);
  std::set<int> late = inquiry.mapped().absent;
  late.merge(inquiry.mapped().unanswered);
  if (late.empty()) {
    if (now < operation.deadline)
      return; // another rank's deadline has passed, not this one's
    const std::vector<int> awaited = operation.late();
    late.insert(awaited.begin(), awaited.end());
  }
  fail({ErrorNumber::timeout, late_text(late) + " within " + inquiry.mapped().deadline +
                                  " (deadline) in " + operation.description});
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

// Everything under way ends here, and everywhere else. Where there is no memory for last words, the
// peers see this rank's links closed, and operations end after that: see run().
void Engine::fail(Failure failure) {
  if (is_broken_)
    return;
  is_broken_ = true;
  {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(failure);
    changed_.notify_all();
  }
  try {
    break_off();
  } catch (const std::bad_alloc&) {
  } catch (const PoolExhausted&) {
  }
}

// What nobody foresaw came up in the progress thread.
void Engine::give_up(const std::exception& error) {
  Failure failure{ErrorNumber::transport, kOutOfMemory, options_.rank};
  try {
    failure.reason = std::string("the progress thread failed: ") + error.what();
  } catch (const std::bad_alloc&) {
  }
  fail(std::move(failure));
}

void Engine::break_off() {
  detach_all();
  tell_all({.kind = ControlKind::failed,
            .number = failure_->number,
            .culprit = failure_->culprit,
            .text = failure_->reason},
           failure_->culprit);
  end_all(*failure_);
}

// No link refers to the memory of operations any more. What had not left is forgotten.
void Engine::detach_all() {
  for (int peer = 0; peer < options_.ranks; ++peer)
    if (Link* link = mesh_->find(peer))
      link->detach();
  placed_.clear();
  windows_.offer_again();
}

void Engine::end_all(const Failure& failure) noexcept {
  early_.clear();
  std::vector<std::shared_ptr<Operation>> submitted;
  {
    const std::lock_guard lock(mutex_);
    submitted.swap(submitted_);
  }
  for (const std::shared_ptr<Operation>& operation : submitted)
    end_operation(operation, &failure);
  for (const std::shared_ptr<Operation>& operation : std::exchange(unready_, {}))
    end_operation(operation, &failure);
  for (const auto& [operation, reason] : std::exchange(refused_operations_, {}))
    end_operation(operation, &reason);
  for (const auto& [key, operation] : std::exchange(active_, {}))
    end_operation(operation, &failure);
}

// No device works for operations any more, which could not be ended yet.
void Engine::release_all() noexcept {
  for (const auto& [operation, reason] : refused_operations_)
    operation->release();
  for (const auto& [key, operation] : active_)
    operation->release();
}

// Ends what is left, and waits a little until the last words have left and the peers have closed:
// closing with unread input would make the kernel discard what the peers have not read yet.
void Engine::leave() {
  if (!is_broken_) {
    if (!active_.empty() || !refused_operations_.empty())
      detach_all();
    tell_all({.kind = ControlKind::goodbye}); // after it: detaching forgets what has not left
    end_all({ErrorNumber::transport, "this communicator was closed"});
  }
  is_broken_ = true; // what still comes in is dropped
  windows_.stop_reading();
  mesh_->stop_listening();
  const Clock::time_point limit = Clock::now() + std::min(kLinger, timeout_ / 4);
  while (Clock::now() < limit && !has_left()) {
    const bool moved = poller_.wait(Clock::now() + 1ms) > 0;
    if (!mesh_->progress() && !moved)
      poller_.wait(std::min(limit, Clock::now() + 5ms));
  }
}

// Whether every link is either closed by the peer or of no more use to it, nor a window.
bool Engine::has_left() const {
  for (int peer = 0; peer < options_.ranks; ++peer) {
    const PeerState& state = peers_[static_cast<std::size_t>(peer)];
    const Link* link = mesh_->find(peer);
    const bool is_done = state.left && link != nullptr && link->backlog() == 0;
    if (link != nullptr && !state.gone && (!is_done || windows_.may_be_read_by(peer)))
      return false;
  }
  return true;
}

} // namespace thinwire
