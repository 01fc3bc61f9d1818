// The thread, and what callers ask of it. How frames are routed is in routing.cpp, how the group
// ends in failing.cpp.
#include "ring/engine.hpp"

#include "core/error.hpp"
#include "core/float_env.hpp"

#include <algorithm>
#include <ctime>
#include <pthread.h>

namespace thinwire {
namespace {

// Between two looks at the work of a device, which no descriptor tells of.
constexpr Clock::duration kLook = std::chrono::microseconds(50);
constexpr Clock::duration kSpin = std::chrono::microseconds(20);
constexpr std::size_t kMostRecent = 1024; // operations

double thread_cpu_seconds() {
  timespec used = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

} // namespace

Engine::Engine(const EngineOptions& options)
    : options_(options), timeout_(to_duration(options.timeout)),
      windows_(*this, options.window_bytes),
      mesh_(new Mesh(options.rank, options.ranks, options.network, poller_, waker_, pool_, *this)),
      address_(mesh_->address()), liveness_(timeout_),
      peers_(static_cast<std::size_t>(options.ranks)) {
  poller_.add(waker_);
  poller_.add(alarm_);
  stats_.waited_seconds.resize(static_cast<std::size_t>(options.ranks));
  recent_.reserve(kMostRecent);
}

Engine::~Engine() {
  abort("its communicator was destroyed");
  close();
}

void Engine::join(std::uint64_t group, std::vector<PeerAddress> peers, std::vector<LinkKind> kinds,
                  std::vector<int> neighbours) {
  group_ = group;
  mesh_->set_peers(group, std::move(peers), std::move(kinds));
  for (int peer : neighbours)
    mesh_->open(peer);
  unconnected_ = std::move(neighbours);
  thread_ = std::thread([this] { run(); });
}

bool Engine::wait_connected(Clock::duration limit) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limit, [this] { return failure_ || unconnected_.empty(); });
  if (failure_)
    failure_->raise();
  return unconnected_.empty();
}

std::vector<int> Engine::unconnected() const {
  const std::lock_guard lock(mutex_);
  return unconnected_;
}

void Engine::submit(std::shared_ptr<Operation> operation) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_)
      failure_->raise();
    if (closing_)
      throw InvalidArgument("this communicator was closed");
    submitted_.reserve(submitted_.size() + 1);
    if (!in_use_.insert(operation->key).second)
      throw InvalidArgument("an operation with this tag is under way");
    submitted_.push_back(std::move(operation));
  }
  waker_.wake();
}

void Engine::abort(const std::string& reason) {
  {
    const std::lock_guard lock(mutex_);
    if (!abort_reason_)
      abort_reason_ = reason;
  }
  waker_.wake();
}

void Engine::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  waker_.wake();
  if (thread_.joinable())
    thread_.join();
  mesh_.reset();
}

std::optional<Failure> Engine::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

EngineStats Engine::stats() {
  std::unique_lock lock(mutex_);
  if (!ended_ && thread_.joinable()) {
    stats_wanted_ = true;
    waker_.wake();
    changed_.wait_for(lock, timeout_, [this] { return !stats_wanted_ || ended_; });
  }
  EngineStats found = stats_;
  stats_.events.clear(); // each is told once
  return found;
}

void Engine::run() {
  ::pthread_setname_np(::pthread_self(), "thinwire");
  const FloatEnvironment environment;
  try {
    while (!is_broken_ && !is_leaving_)
      if (!turn() && !is_broken_ && !is_leaving_)
        rest();
  } catch (const std::exception& error) { // out of memory or descriptors, or a mistake of ours
    give_up(error);
  }
  try {
    leave();
    update_stats();
  } catch (const std::exception& error) {
    give_up(error);
  }
  release_all();
  windows_.end(); // before peers see this rank's links closed
  mesh_.reset();
  if (failure_) // what could not be ended before: nothing refers to its memory any more
    end_all(*failure_);
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

// Whether anything moved. A device that fails ends everything: the others cannot know how far this
// rank came.
bool Engine::turn() {
  try {
    return move();
  } catch (const CudaError& error) {
    fail({ErrorNumber::cuda, error.what(), rank()});
    return true;
  }
}

bool Engine::move() {
  bool moved = take_requests();
  moved |= begin_ready();
  moved |= poller_.wait(Clock::time_point()) > 0;
  moved |= mesh_->progress();
  check_connected();
  moved |= advance_operations();
  windows_.progress();
  const Clock::time_point now = Clock::now();
  if (now >= next_event())
    watch(now);
  return moved;
}

// Waits until there is something to do.
void Engine::rest() {
  if (!active_.empty() && patience_.is_worth_it()) {
    const bool came = spin();
    patience_.note(came);
    if (came)
      return;
  }
  if (mesh_->announce_sleep(true)) {
    if (awaits_device())
      alarm_.set(kLook);
    poller_.wait(next_event());
  }
  mesh_->announce_sleep(false);
}

bool Engine::awaits_device() const {
  return !unready_.empty() || std::any_of(active_.begin(), active_.end(), [](const auto& active) {
    return active.second->awaits_device();
  });
}

// Looks for a while, without sleeping. Returns whether anything moved.
bool Engine::spin() {
  const Clock::time_point until = Clock::now() + kSpin;
  while (Clock::now() < until)
    if (poller_.wait(Clock::time_point()) > 0 || mesh_->progress())
      return true;
  return false;
}

bool Engine::take_requests() {
  std::optional<std::string> abort_reason;
  bool any = false, stats_wanted = false;
  {
    const std::lock_guard lock(mutex_);
    abort_reason = abort_reason_;
    is_leaving_ = closing_;
    stats_wanted = stats_wanted_;
    any = !submitted_.empty();
    unready_.insert(unready_.end(), submitted_.begin(), submitted_.end());
    submitted_.clear(); // last: should memory run out, none is lost
  }
  if (abort_reason)
    fail({ErrorNumber::transport, *abort_reason, options_.rank});
  if (stats_wanted)
    update_stats();
  return any;
}

// Whether any operation began. One that is refused or comes too late begins as well: to end at
// once.
bool Engine::begin_ready() {
  bool began = false;
  for (std::size_t i = 0; i < unready_.size();) {
    const std::shared_ptr<Operation> operation = unready_[i];
    if (!is_broken_ && !refused_.contains(operation->key) && !operation->is_ready(*this)) {
      ++i;
      continue;
    }
    begin(operation);
    std::erase(unready_, operation); // after it, for should memory run out there, none is lost
    began = true;
  }
  return began;
}

void Engine::check_connected() {
  if (connecting_done_)
    return;
  const std::lock_guard lock(mutex_);
  std::erase_if(unconnected_, [this](int peer) { return mesh_->is_connected(peer); });
  connecting_done_ = unconnected_.empty();
  if (connecting_done_)
    changed_.notify_all();
}

bool Engine::advance_operations() {
  std::vector<std::shared_ptr<Operation>> finished;
  for (const auto& [key, operation] : active_) {
    operation->advance();
    if (operation->is_finished())
      finished.push_back(operation);
  }
  for (const std::shared_ptr<Operation>& operation : finished) {
    active_.erase(operation->key);
    note_waits(*operation);
    end_operation(operation, nullptr);
  }
  std::erase_if(refused_operations_, [this](auto& refused) {
    const auto& [operation, failure] = refused;
    const bool is_arriving = std::any_of(placed_.begin(), placed_.end(), [&](const auto& placed) {
      return placed.second.operation == operation;
    });
    if (operation->is_in_flight() || is_arriving)
      return false;
    end_operation(operation, &failure);
    return true;
  });
  return !finished.empty();
}

// Takes no memory: operations end where there is none. One that has ended may be met again, where
// all end while it is about to begin.
void Engine::end_operation(const std::shared_ptr<Operation>& operation,
                           const Failure* failure) noexcept {
  if (operation->is_over())
    return;
  inquiries_.erase(operation->key);
  remember(operation->key);
  {
    const std::lock_guard lock(mutex_);
    in_use_.erase(operation->key);
    ++stats_.operations;
    stats_.costs += operation->outcome().costs;
  }
  operation->release();
  operation->end(failure ? std::optional(copy_or_shorten(*failure)) : std::nullopt);
}

void Engine::remember(const OperationKey& key) {
  if (recent_.size() < recent_.capacity())
    return recent_.push_back(key);
  recent_[next_recent_] = key;
  next_recent_ = (next_recent_ + 1) % recent_.size();
}

void Engine::note_waits(const Operation& operation) {
  const std::lock_guard lock(mutex_);
  for (const auto& [culprit, wait] : operation.waits())
    if (culprit != rank())
      stats_.waited_seconds[static_cast<std::size_t>(culprit)] += to_seconds(wait);
}

void Engine::update_stats() {
  std::vector<PeerStats> links;
  for (int peer = 0; peer < options_.ranks; ++peer)
    if (const Link* link = mesh_->find(peer))
      links.push_back({peer, link->stats(), windows_.stats(peer)});
  std::vector<std::string> events = mesh_->take_events();
  const std::lock_guard lock(mutex_);
  stats_.events.insert(stats_.events.end(), events.begin(), events.end());
  stats_.links = std::move(links);
  stats_.buffer_bytes = pool_.peak_bytes();
  stats_.busy_seconds = thread_cpu_seconds();
  stats_wanted_ = false;
  changed_.notify_all();
}

Clock::time_point Engine::next_event() const {
  Clock::time_point next = std::min(liveness_.next_tick(), mesh_->next_event());
  for (const std::shared_ptr<Operation>& operation : unready_)
    next = std::min(next, operation->deadline);
  for (const auto& [operation, failure] : refused_operations_)
    next = std::min(next, operation->deadline);
  for (const auto& [key, operation] : active_) {
    const auto inquiry = inquiries_.find(key);
    next =
        std::min(next, inquiry == inquiries_.end() ? operation->deadline : inquiry->second.until);
  }
  return next;
}

} // namespace thinwire
