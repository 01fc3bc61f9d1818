// One collective on its way: what callers wait for, and what the engine drives.
#pragma once

#include "ring/failure.hpp"
#include "transport/link.hpp"

#include <compare>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace thinwire {

class Windows;

// Which operation a frame belongs to: the same on every rank.
struct OperationKey {
  std::uint64_t step = 0;
  std::uint32_t bucket = 0;
  auto operator<=>(const OperationKey&) const = default;
};

inline OperationKey key_of(const FrameHeader& header) { return {header.step, header.bucket}; }

// A header of this operation's frames, made by rank `sender`.
inline FrameHeader header_of(const OperationKey& key, std::uint64_t group, int sender) {
  FrameHeader header;
  header.group = group;
  header.step = key.step;
  header.bucket = key.bucket;
  header.sender = static_cast<std::uint32_t>(sender);
  return header;
}

// What an operation needs of the engine. Used by the progress thread.
class Wires {
public:
  virtual int rank() const = 0;
  virtual std::uint64_t group() const = 0;
  virtual void send(int peer, Outgoing frame) = 0;
  virtual std::size_t backlog(int peer) const = 0;
  virtual bool is_local(int peer) const = 0; // the link to it is memory
  virtual BlockPool& pool() = 0;
  virtual Windows& windows() = 0;

protected:
  ~Wires() = default;
};

// A reason that took the place of a slice's values, the same on all ranks.
struct SliceFailure {
  std::uint32_t slice;
  int owner;
  Failure failure;
};

// What an operation cost this rank.
struct Costs {
  // Seconds of the progress thread.
  double encode = 0; // of this rank's values
  double add = 0;    // of other ranks' frames
  double result = 0; // encoding sums as their owner
  double decode = 0; // of results
  // Bytes of frames.
  std::uint64_t sent_up = 0, sent_down = 0;

  Costs& operator+=(const Costs& other);
};

// Adds the time of a scope to a total.
class Stopwatch {
public:
  explicit Stopwatch(double& total) : total_(total), begin_(Clock::now()) {}
  ~Stopwatch() { total_ += to_seconds(Clock::now() - begin_); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

private:
  double& total_;
  Clock::time_point begin_;
};

// Divides the time of a scope between two totals, in proportion to what was done for each.
class DividedStopwatch {
public:
  DividedStopwatch(double& first, std::size_t done, double& second, std::size_t done_for_second)
      : first_(first), second_(second),
        share_(static_cast<double>(done) / static_cast<double>(done + done_for_second)) {}
  ~DividedStopwatch() {
    const double seconds = to_seconds(Clock::now() - begin_);
    first_ += share_ * seconds;
    second_ += (1 - share_) * seconds;
  }
  DividedStopwatch(const DividedStopwatch&) = delete;
  DividedStopwatch& operator=(const DividedStopwatch&) = delete;

private:
  double &first_, &second_;
  const double share_;
  const Clock::time_point begin_ = Clock::now();
};

struct Outcome {
  std::optional<Failure> failure; // the operation came to no end
  std::vector<SliceFailure> slices;
  bool nonfinite = false;
  Costs costs;
  // Squared norms of what encoding one sum lost, and of that sum, where a sample was asked for.
  double sampled_error = 0, sampled_total = 0;

  void add_sample(const float* sum, const float* decoded, std::size_t count);
};

class Operation {
public:
  // `description` is what all ranks must agree on, as text; `plan_id` its hash, in every frame.
  Operation(OperationKey key, std::uint32_t plan_id, std::string description,
            Clock::duration deadline);
  virtual ~Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  const OperationKey key;
  const std::uint32_t plan_id;
  const std::string description;
  const Clock::time_point submitted, deadline;

  // Any thread.
  bool wait_for(Clock::duration limit); // whether it is over
  bool is_over() const;
  const Outcome& outcome() const { return outcome_; } // once it is over
  void end(std::optional<Failure> failure);           // by the engine; later calls change nothing

  // The progress thread, from here on.
  virtual std::vector<int> peers() const = 0; // whom it exchanges frames with
  // Whether it may start: asked before, and again until it is so.
  virtual bool is_ready(Wires&) { return true; }
  virtual void start(Wires& wires) = 0;
  // Starts what may be started now. Called after anything has moved.
  virtual void advance() = 0;
  // See FrameSink. A frame's group and plan were checked, and that the sender is a peer. Throws
  // CorruptFrame where the frame does not fit.
  virtual std::byte* place(int peer, const FrameHeader& header) = 0;
  virtual void receive(Received frame) = 0;
  virtual bool is_finished() const = 0;
  virtual std::vector<int> awaited() const = 0; // peers from whom a frame is missing
  // Gives back all memory of the engine's: the operation is about to end, perhaps before its time.
  virtual void release() = 0;
  // Whether frames on their way refer to the caller's memory.
  virtual bool is_in_flight() const { return false; }
  // Whether work on a device has to end before advance() can go on, which nothing but a look tells.
  virtual bool awaits_device() const { return false; }
  // Whether it takes frames that lie in a peer's window.
  virtual bool reads_windows() const { return false; }
  // A frame came from `peer`, which had waited for `culprit`'s to make it.
  void heard_from(int peer, int culprit, Clock::time_point when);
  // How long this rank has waited, by the rank that it was for.
  const std::map<int, Clock::duration>& waits() const { return waits_; }
  // The awaited peers that have not sent anything at all, or, if there is none, the awaited ones.
  std::vector<int> late() const;

protected:
  Outcome outcome_;

private:
  mutable std::mutex mutex_;
  std::condition_variable over_;
  bool is_over_ = false;
  std::set<int> heard_; // peers
  Clock::time_point last_heard_;
  std::map<int, Clock::duration> waits_;
};

} // namespace thinwire
