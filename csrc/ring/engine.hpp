// The progress engine of one communicator: a thread that moves every frame of every operation, and
// notices when a peer is gone.
#pragma once

#include "ring/control.hpp"
#include "ring/liveness.hpp"
#include "ring/operation.hpp"
#include "ring/windows.hpp"
#include "transport/mesh.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace thinwire {

struct EngineOptions {
  int rank = 0, ranks = 1;
  double timeout = 30; // seconds of a peer's silence
  NetworkOptions network;
  // Of a device's memory, for peers of this host to read. 0: none, frames travel over the host.
  std::size_t window_bytes = std::size_t{64} << 20;
};

struct PeerStats {
  int peer;
  LinkStats link;
  WindowStats window;
};

struct EngineStats {
  std::vector<PeerStats> links;
  Costs costs; // of all operations that ended
  std::size_t buffer_bytes = 0;
  std::uint64_t operations = 0; // ended
  double busy_seconds = 0;      // the thread's CPU time
  // By rank: seconds that this one waited for it, directly or because others did, added up. The
  // greatest is the slowest rank's.
  std::vector<double> waited_seconds = {};
  std::vector<std::string> events = {}; // strangers that were turned away, and the like
};

// Whether to look for an answer for some microseconds before the thread falls asleep: next door it
// is often there sooner than a sleeper wakes, over a thin link it never is, and looking costs a
// core.
class Patience {
public:
  bool is_worth_it() { return skip_ == 0 || --skip_ == 0; }
  void note(bool came) {
    failures_ = came ? 0 : std::min(failures_ + 1, 8);
    skip_ = came ? 0 : 1 << failures_;
  }

private:
  int failures_ = 0, skip_ = 0;
};

class Engine final : private FrameSink, private Wires {
public:
  // Starts to listen. See Mesh.
  explicit Engine(const EngineOptions& options);
  ~Engine(); // as abort()

  const PeerAddress& address() const { return address_; }
  // Starts the thread and opens links to `neighbours`, without waiting. See Mesh::set_peers.
  void join(std::uint64_t group, std::vector<PeerAddress> peers, std::vector<LinkKind> kinds,
            std::vector<int> neighbours);
  // Waits until these links stand. False after `limit`; throws where the group broke.
  bool wait_connected(Clock::duration limit);
  std::vector<int> unconnected() const;
  std::uint64_t group() const override { return group_; }

  // Takes an operation. It ends in any case. Throws where the group is broken or closed, or where
  // the key is in use.
  void submit(std::shared_ptr<Operation> operation);

  // Ends everything under way here with an error, and on all other ranks with PeerLost.
  void abort(const std::string& reason);
  // Says goodbye and ends the thread. Operations under way end with an error.
  void close();

  std::optional<Failure> failure() const; // why the group is broken
  EngineStats stats();

private:
  // FrameSink
  std::byte* place(int peer, const FrameHeader& header) override;
  void receive(Received frame) override;
  void lost(int peer, const std::string& reason) override;

  // Wires
  int rank() const override { return options_.rank; }
  void send(int peer, Outgoing frame) override;
  std::size_t backlog(int peer) const override;
  bool is_local(int peer) const override { return mesh_->shares_memory(peer); }
  BlockPool& pool() override { return pool_; }
  Windows& windows() override { return windows_; }

  // What a peer was last heard to be.
  struct PeerState {
    bool left = false, gone = false;
    Clock::time_point gone_since;
    std::string gone_reason;
  };

  // engine.cpp: the thread
  void run();
  bool turn();
  bool move();
  void rest();
  bool awaits_device() const;
  bool spin();
  bool take_requests();
  bool begin_ready();
  void check_connected();
  bool advance_operations();
  void end_operation(const std::shared_ptr<Operation>& operation, const Failure* failure) noexcept;
  void remember(const OperationKey& key);
  void note_waits(const Operation& operation);
  void update_stats();
  Clock::time_point next_event() const;

  // routing.cpp: frames and operations
  void begin(const std::shared_ptr<Operation>& operation);
  void route(Received frame);
  void keep_early(Received frame);
  bool disagrees(const Operation& operation, const FrameHeader& header) const;
  void control(int peer, const ControlMessage& message);
  void compare(int peer, const ControlMessage& message);
  void refuse(const OperationKey& key, const Failure& failure);
  void tell(int peer, const ControlMessage& message);
  void tell_all(const ControlMessage& message, int except = -1);

  // failing.cpp: the end
  void watch(Clock::time_point now);
  void watch_peer(int peer, Clock::time_point now);
  void watch_deadlines(Clock::time_point now);
  std::set<int> senders_to(const Operation& operation) const;
  void inquire(const Operation& operation, const std::string& deadline, Clock::time_point now);
  void answer(int peer, const ControlMessage& question);
  void hear_answer(int peer, const ControlMessage& message);
  void decide(const Operation& operation, Clock::time_point now);
  bool has_begun(const OperationKey& key) const;
  void lose(int peer, const std::string& reason);
  void lose_if_awaited(int peer);
  void hear_failure(int peer, const ControlMessage& message);
  void fail(Failure failure);
  void give_up(const std::exception& error);
  void break_off();
  void detach_all();
  void end_all(const Failure& failure) noexcept;
  void release_all() noexcept;
  void leave();
  bool has_left() const;

  const EngineOptions options_;
  const Clock::duration timeout_;
  Poller poller_;
  Waker waker_;
  Alarm alarm_;
  BlockPool pool_;
  Windows windows_;
  std::unique_ptr<Mesh> mesh_;
  const PeerAddress address_;
  Liveness liveness_;
  std::uint64_t group_ = 0;
  std::thread thread_;

  // Shared with callers.
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Operation>> submitted_;
  std::set<OperationKey> in_use_;
  std::optional<Failure> failure_; // written by the progress thread
  std::optional<std::string> abort_reason_;
  bool closing_ = false, ended_ = false;
  std::vector<int> unconnected_;
  EngineStats stats_;
  bool stats_wanted_ = false;

  // The progress thread's.
  std::vector<std::shared_ptr<Operation>> unready_; // submitted, their values being worked on
  std::map<OperationKey, std::shared_ptr<Operation>> active_;
  // Frames that came before their operation was submitted here.
  std::map<OperationKey, std::vector<Received>> early_;
  std::size_t early_bytes_ = 0;
  std::map<OperationKey, Failure> refused_; // frames of these are dropped
  // Payloads that are arriving in callers' memory.
  struct Placed {
    int peer; // that sends it
    std::shared_ptr<Operation> operation;
  };
  std::map<const std::byte*, Placed> placed_;
  std::vector<PeerState> peers_;
  // Refused while frames on their way still refer to the caller's memory.
  std::vector<std::pair<std::shared_ptr<Operation>, Failure>> refused_operations_;
  // Who is late where a deadline has passed, here or elsewhere: asked first, as a peer that is
  // awaited may wait itself.
  struct Inquiry {
    std::string deadline;    // in words
    Clock::time_point until; // when it is decided
    bool is_complete;        // all ranks of the group were asked
    std::set<int> unanswered, absent = {};
  };
  std::map<OperationKey, Inquiry> inquiries_;
  std::vector<OperationKey> recent_; // operations that ended last, a ring
  std::size_t next_recent_ = 0;
  Patience patience_;
  bool is_broken_ = false, is_leaving_ = false, connecting_done_ = false;
};

} // namespace thinwire
