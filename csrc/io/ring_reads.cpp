#include "io/ring_reads.hpp"

#include "core/error.hpp"

#include <cerrno>
#include <numeric>
#include <utility>

namespace thinwire {

RingReads::RingReads(unsigned depth, ReadQueue& queue)
    : queue_(queue), slots_(depth), free_(depth) {
  std::iota(free_.begin(), free_.end(), std::size_t{0});
}

void RingReads::start(Read& read) {
  while (free_.empty())
    collect(true);
  if (!has_ring())
    return queue_.end(read, read_waiting(read));
  const std::size_t slot = free_.back();
  free_.pop_back();
  slots_[slot].read = &read;
  submit(slot);
}

void RingReads::collect(bool wait) {
  if (count() == 0)
    return;
  try {
    ring_->enter(wait ? 1 : 0);
  } catch (const NotBuilt&) {
    return give_up();
  }
  ring_->collect([this](std::uint64_t slot, std::int32_t result) { go_on(slot, result); });
}

// The probe has made one; but limits of the process may have been reached since.
bool RingReads::has_ring() {
  if (!ring_ && !failed_) {
    try {
      ring_.emplace(static_cast<unsigned>(slots_.size()));
    } catch (const NotBuilt&) {
      failed_ = true;
    }
  }
  return ring_.has_value();
}

void RingReads::submit(std::size_t slot) {
  const Read::Step step = slots_[slot].read->next_step(slots_[slot].memory);
  ring_->read(step.fd, step.memory, step.offset, slot);
}

void RingReads::go_on(std::size_t slot, std::int32_t result) {
  Read& read = *slots_[slot].read;
  const std::optional<int> ended = result == -EAGAIN ? read_waiting(read) : read.advance(result);
  if (ended)
    free(slot, *ended);
  else
    submit(slot);
}

void RingReads::free(std::size_t slot, int ended) {
  Read& read = *std::exchange(slots_[slot].read, nullptr);
  free_.push_back(slot);
  queue_.end(read, ended);
}

// What was under way is read again: the same bytes to the same place.
void RingReads::give_up() {
  failed_ = true;
  ring_.reset();
  for (std::size_t slot = 0; slot < slots_.size(); ++slot)
    if (slots_[slot].read != nullptr)
      free(slot, read_waiting(*slots_[slot].read));
}

} // namespace thinwire
