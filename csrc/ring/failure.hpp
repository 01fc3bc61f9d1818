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

// A reason that needs no memory: strings hold so few characters in themselves.
inline constexpr const char* kOutOfMemory = "out of memory";

struct Failure {
  ErrorNumber number;
  std::string reason;
  int culprit = -1; // the rank that was lost, or -1

  [[noreturn]] void raise() const; // as the class of core/error.hpp that fits
};

// The same, but for its reason, where there is no memory for that: then it says so.
Failure copy_or_shorten(const Failure& failure) noexcept;

} // namespace thinwire
