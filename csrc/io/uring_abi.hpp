// What the kernel and a process agree on for io_uring, as far as it is used here. The kernel never
// changes it; its own header is absent or too old where portable wheels are built.
#pragma once

#include <cstddef>
#include <cstdint>

namespace thinwire::uring {

// The same numbers on every architecture.
inline constexpr long kSetupCall = 425;
inline constexpr long kEnterCall = 426;

inline constexpr std::uint32_t kSetupSingleIssuer = 1U << 12;     // Linux 6.0
inline constexpr std::uint32_t kSetupDeferTaskrun = 1U << 13;     // Linux 6.1
inline constexpr std::uint32_t kFeatureCurrentPosition = 1U << 3; // Linux 5.6, as kRead
inline constexpr std::uint32_t kEnterGetEvents = 1U << 0;
inline constexpr std::uint64_t kOffsetOfRings = 0;
inline constexpr std::uint64_t kOffsetOfEntries = 0x10000000;
inline constexpr std::uint8_t kNop = 0;
inline constexpr std::uint8_t kReadv = 1;
inline constexpr std::uint8_t kRead = 22;

// An entry of the submission queue (io_uring_sqe).
struct Submission {
  std::uint8_t operation;
  std::uint8_t flags;
  std::uint16_t priority;
  std::int32_t fd;
  std::uint64_t offset;
  std::uint64_t address;
  std::uint32_t length;
  std::uint32_t operation_flags;
  std::uint64_t tag;
  std::uint64_t unused[3];
};
static_assert(sizeof(Submission) == 64);

// An entry of the completion queue (io_uring_cqe).
struct Completion {
  std::uint64_t tag;
  std::int32_t result; // bytes, or -errno
  std::uint32_t flags;
};
static_assert(sizeof(Completion) == 16);

// Where the parts of the submission ring lie in its mapping (io_sqring_offsets).
struct SubmissionOffsets {
  std::uint32_t head, tail, mask, entries, flags, dropped, array, reserved;
  std::uint64_t user_address;
};

// The same of the completion ring (io_cqring_offsets).
struct CompletionOffsets {
  std::uint32_t head, tail, mask, entries, overflow, completions, flags, reserved;
  std::uint64_t user_address;
};

// What is asked for, and what the kernel answers (io_uring_params).
struct Parameters {
  std::uint32_t submissions, completions, flags, cpu, idle, features, attached, reserved[3];
  SubmissionOffsets submission_offsets;
  CompletionOffsets completion_offsets;
};
static_assert(sizeof(Parameters) == 120);

} // namespace thinwire::uring
