// What the frames of a tree operation hold: sums, encoded or exact, and the caller's own memory. A
// slice asks one object for them, whether its values lie on the host or on a device.
#pragma once

#include "ring/operation.hpp"
#include "ring/slice_values.hpp"

#include <memory>

namespace thinwire {

enum TreePhase : std::uint8_t { kUp = 1, kDown = 2, kReady = 5 }; // 3 and 4 are doubling's

// Who sends what was made.
class FrameTaker {
public:
  virtual void take_made(std::size_t i, Outgoing frame) = 0;
  virtual void take_forwarded(std::size_t i, Outgoing frame) = 0; // a result of another rank

protected:
  ~FrameTaker() = default;
};

// The frames of all slices. A slice's sum begins with this rank's own values. What is made goes to
// the taker when it is whole: at once, or in a later advance(). Used by the progress thread.
class TreeFrames {
public:
  TreeFrames(SliceValues values, Outcome& outcome, FrameTaker& taker)
      : values_(std::move(values)), outcome_(outcome), taker_(taker) {}
  virtual ~TreeFrames() = default;
  TreeFrames(const TreeFrames&) = delete;
  TreeFrames& operator=(const TreeFrames&) = delete;

  // The first call. Whether the caller's values may be read; asked again until it is so.
  virtual bool is_ready(Wires& wires) {
    wires_ = &wires;
    return true;
  }

  // `head` lacks what values and layout decide.
  virtual void make_own(std::size_t i, FrameHeader head) = 0;     // of this rank's values
  virtual void add(std::size_t i, Received frame) = 0;            // to the sum
  virtual void make_partial(std::size_t i, FrameHeader head) = 0; // of the sum, on its way up
  // Of the sum of all ranks: encoded once, and decoded here as everywhere.
  virtual void make_result(std::size_t i, FrameHeader head) = 0;
  virtual void drop_sum(std::size_t i) = 0;

  // Where a result may be received; see FrameSink.
  virtual std::byte* place(std::size_t, const FrameHeader&) { return nullptr; }
  // Decodes a result into the output.
  virtual void store(std::size_t i, Received& frame) = 0;
  // A stored result is passed on.
  virtual void forward(std::size_t i, Received frame) {
    Received held = hold(std::move(frame), pool());
    forwarded(i, {held.header, held.payload, std::move(held.keep)});
  }

  // Whether there is room for more of this rank's own.
  virtual bool has_room() const { return true; }
  // How much a rank may have sent, slice i with it, before the first result is back: enough for
  // long fat links.
  virtual std::size_t bytes_ahead(std::size_t) const { return std::size_t{8} << 20; }
  virtual void advance() {}
  // Begins what was asked for.
  virtual void flush() {}
  virtual std::size_t bytes_in_making() const { return 0; }
  // Whether nothing is under way that advance() has to see the end of.
  virtual bool is_settled() const { return true; }
  virtual bool awaits_device() const { return false; }
  // Whether frames on their way refer to the caller's memory.
  virtual bool is_in_flight() const { return false; }
  virtual void release() = 0; // all memory of the engine's

protected:
  const PlannedSlice& slice(std::size_t i) const { return values_.slice(i); }
  const TreePlan& plan() const { return values_.plan(); }
  BlockPool& pool() const { return wires_->pool(); }
  Windows& windows() const { return wires_->windows(); }
  void made(std::size_t i, Outgoing frame) { taker_.take_made(i, std::move(frame)); }
  void forwarded(std::size_t i, Outgoing frame) { taker_.take_forwarded(i, std::move(frame)); }

  SliceValues values_;
  Outcome& outcome_;

private:
  FrameTaker& taker_;
  Wires* wires_ = nullptr;
};

} // namespace thinwire
