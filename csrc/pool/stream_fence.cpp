#include "pool/stream_fence.hpp"

namespace thinwire::pool {
namespace {

// cudaStreamPerThread means another stream in each thread: its event must be recorded by the one
// that frees.
bool is_per_thread(cuda::Stream stream) {
  return stream == reinterpret_cast<cuda::Stream>(std::uintptr_t{2});
}

} // namespace

StreamFence::~StreamFence() {
  for (const Event event : pending_)
    driver_.destroy(event);
  for (const Event event : spare_)
    driver_.destroy(event);
}

std::uint64_t StreamFence::next() {
  const std::lock_guard lock(mutex_);
  if (is_per_thread(stream_.stream) && flush())
    return flushed_;
  return flushed_ + 1;
}

// Where no event can be recorded, the block is kept: better lost than used twice.
bool StreamFence::flush() {
  const Event reused = spare_.empty() ? nullptr : spare_.back();
  if (reused)
    spare_.pop_back();
  const Event event = driver_.record(stream_, reused);
  if (!event)
    return false;
  pending_.push_back(event);
  ++flushed_;
  return true;
}

void StreamFence::retire() {
  spare_.push_back(pending_.front());
  pending_.pop_front();
  ++reached_;
}

bool StreamFence::reached(std::uint64_t value) {
  const std::lock_guard lock(mutex_);
  if (value > flushed_ && !flush())
    return false;
  while (reached_ < value && driver_.passed(pending_.front()))
    retire();
  return reached_ >= value;
}

void StreamFence::settle() {
  const std::lock_guard lock(mutex_);
  flush();
  while (!pending_.empty()) {
    driver_.wait(pending_.front());
    retire();
  }
}

} // namespace thinwire::pool
