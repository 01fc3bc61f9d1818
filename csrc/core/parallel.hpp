// Work on several threads, for as long as one call takes.
#pragma once

#include <cstddef>
#include <functional>

namespace thinwire {

// How many threads `threads` stands for: itself, or every core the calling thread may run on if it
// is 0.
unsigned thread_count(unsigned threads);

// Calls work(0) to work(tasks - 1), each once, on up to thread_count(threads) threads, the
// caller's among them. Tasks are begun in order. Returns when all have
// ended; of what they throw, the first is thrown again and no further task is begun.
//
// The threads end with the call (starting one takes tens of microseconds), so nothing has to be
// stopped at exit or mended after a fork.
void parallel_for(std::size_t tasks, unsigned threads,
                  const std::function<void(std::size_t)>& work);

} // namespace thinwire
