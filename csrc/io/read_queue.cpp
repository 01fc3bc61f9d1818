#include "io/read_queue.hpp"

#include "core/error.hpp"

#include <cerrno>
#include <string>
#include <utility>

namespace thinwire {
namespace {

// What a thread takes at once: enough to pay for the lock, little enough for other threads.
constexpr std::size_t kMostTaken = 32;
constexpr std::uint64_t kMostTakenBytes = 256 << 10;

} // namespace

std::uint64_t ReadQueue::submit(std::unique_ptr<Batch> batch) {
  const std::lock_guard lock(mutex_);
  refuse_if_closed();
  const std::uint64_t ticket = last_ticket_ + 1;
  if (!batch->reads.empty()) {
    batch->ticket = ticket;
    Batch& kept = *batches_.emplace(ticket, std::move(batch)).first->second;
    untaken_.push_back(&kept);
    // Until somebody waits, one thread is enough: more of them take the caller's core.
    if (coming_back_ == 0)
      more_.notify_one();
  }
  return last_ticket_ = ticket;
}

std::uint64_t ReadQueue::add_ended(const Batch& batch) {
  const std::lock_guard lock(mutex_);
  refuse_if_closed();
  count(batch);
  return ++last_ticket_;
}

void ReadQueue::add_hints(const std::vector<Hint>& hints) {
  const std::lock_guard lock(mutex_);
  refuse_if_closed();
  hints_.insert(hints_.end(), hints.begin(), hints.end());
  more_.notify_one();
}

void ReadQueue::refuse_if_closed() const {
  if (closed_)
    throw InvalidArgument("the reader is closed");
}

bool ReadQueue::take(Work& work, bool wait) {
  work.reads.clear();
  work.hint.reset();
  std::unique_lock lock(mutex_);
  coming_back_ -= std::exchange(work.comes_back, false);
  if (wait)
    more_.wait(lock, [this] { return closed_ || !untaken_.empty() || !hints_.empty(); });
  take_reads(work.reads);
  work.comes_back = wait && !work.reads.empty();
  coming_back_ += work.comes_back;
  if (work.reads.empty() && !hints_.empty()) {
    work.hint = hints_.front();
    hints_.pop_front();
  }
  return !closed_;
}

void ReadQueue::take_reads(std::vector<Read*>& reads) {
  for (std::uint64_t bytes = 0; !untaken_.empty() && reads.size() < kMostTaken;) {
    Batch& batch = *untaken_.front();
    Read& read = batch.reads[batch.taken];
    if (!reads.empty() && bytes + read.size() > kMostTakenBytes)
      return;
    bytes += read.size();
    reads.push_back(&read);
    if (++batch.taken == batch.reads.size())
      untaken_.pop_front();
  }
}

void ReadQueue::end(std::span<Read* const> reads, int how) {
  while (!reads.empty()) {
    Batch& batch = reads.front()->batch();
    std::size_t count = 0;
    for (; count < reads.size() && &reads[count]->batch() == &batch; ++count)
      reads[count]->end(how);
    reads = reads.subspan(count);
    settled(batch, count);
  }
}

void ReadQueue::end(Read& read, int how) {
  Read* const only = &read;
  end({&only, 1}, how);
}

void ReadQueue::settled(Batch& batch, std::size_t reads) {
  if (batch.left.fetch_sub(reads, std::memory_order_acq_rel) > reads)
    return;
  std::unique_ptr<Batch> over; // freed without the lock
  const std::lock_guard lock(mutex_);
  const auto found = batches_.find(batch.ticket);
  over = std::move(found->second);
  count(*over);
  batches_.erase(found);
  ended_.notify_all();
}

void ReadQueue::count(const Batch& batch) {
  stats_.reads += batch.reads.size();
  stats_.merged += batch.records.size() - batch.reads.size();
  for (const Read& read : batch.reads) {
    stats_.bytes += read.done();
    stats_.direct += read.was_direct();
  }
}

ReaderStats ReadQueue::stats() {
  const std::lock_guard lock(mutex_);
  return stats_;
}

bool ReadQueue::has_ended(std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  return !batches_.contains(ticket);
}

bool ReadQueue::wait(std::uint64_t ticket, Clock::duration limit) {
  std::unique_lock lock(mutex_);
  if (ticket == 0 || ticket > last_ticket_)
    throw InvalidArgument("ticket " + std::to_string(ticket) + " is not one of this reader's");
  const auto over = [&] { return !batches_.contains(ticket); };
  if (over())
    return true;
  ++stats_.waits;
  if (!untaken_.empty())
    more_.notify_all();
  return ended_.wait_for(lock, limit, over);
}

void ReadQueue::close() {
  std::deque<Batch*> cancelled;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    cancelled.swap(untaken_);
    hints_.clear();
    more_.notify_all();
  }
  for (Batch* batch : cancelled)
    for (std::size_t i = batch->taken, all = batch->reads.size(); i < all; ++i)
      end(batch->reads[i], ECANCELED);
}

} // namespace thinwire
