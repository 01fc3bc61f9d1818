#include "io/blocking_reads.hpp"

#include "io/reader_thread.hpp"

#include <cerrno>
#include <system_error>

namespace thinwire {

void BlockingReads::start(Read& read) {
  const auto ended = read.direct ? std::nullopt : read_cached(read);
  if (ended)
    queue_.end(read, *ended);
  else if (!hand_over(read))
    queue_.end(read, read_waiting(read));
}

bool BlockingReads::hand_over(Read& read) {
  std::unique_lock lock(mutex_);
  if (idle_ <= reads_.size() && !add_thread() && threads_.empty())
    return false;
  room_.wait(lock, [this] { return reads_.size() < most_; }); // each holds a file open
  reads_.push_back(&read);
  changed_.notify_one();
  return true;
}

bool BlockingReads::add_thread() {
  if (threads_.size() >= most_)
    return false;
  try {
    threads_.emplace_back([this] { run(); });
    return true;
  } catch (const std::system_error&) {
    return false; // no more to be had: those there are do all the work
  }
}

void BlockingReads::run() {
  begin_reader_thread();
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    changed_.wait(lock, [this] { return closing_ || !reads_.empty(); });
    --idle_;
    if (closing_)
      return;
    Read& read = *reads_.front();
    reads_.pop_front();
    room_.notify_one();
    lock.unlock();
    queue_.end(read, read_waiting(read));
    lock.lock();
  }
}

BlockingReads::~BlockingReads() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_)
    thread.join();
  for (Read* read : reads_)
    queue_.end(*read, ECANCELED);
}

} // namespace thinwire
