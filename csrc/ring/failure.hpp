// Why an operation, or the whole group, came to an end: the same on every rank that hears of it.
#pragma once

#include <cstdint>
#include <string>

namespace thinwire {

// As an aborted frame carries it; docs/wire/frame.md lists the numbers.
enum class ErrorNumber : std::uint32_t {
  invalid_argument = 1,
  corrupt_frame = 2,
  transport = 3,
  timeout = 4,
  replica_mismatch = 5,
  other = 6,
  peer_lost = 7,
  cuda = 8,
};

struct Failure {
  ErrorNumber number;
  std::string reason;
  int culprit = -1; // the rank that was lost, or -1

  [[noreturn]] void raise() const; // as the class of core/error.hpp that fits
};

} // namespace thinwire
