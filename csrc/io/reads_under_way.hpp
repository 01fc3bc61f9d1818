// How a thread makes its reads: many of them at a time.
#pragma once

#include "io/read.hpp"

#include <cstddef>

namespace thinwire {

class ReadsUnderWay {
public:
  virtual ~ReadsUnderWay() = default;
  // The file has been opened and there is something to read.
  virtual void start(Read& read) = 0;
  // Reads that end in a call of collect(), and nowhere else.
  virtual std::size_t count() const = 0;
  // wait: until one of them has ended, if there are any.
  virtual void collect(bool wait) = 0;
};

} // namespace thinwire
