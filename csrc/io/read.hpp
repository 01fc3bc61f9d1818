// Records, the reads that fetch them, and what became of each.
#pragma once

#include "io/open_files.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <sys/uio.h>
#include <vector>

namespace thinwire {

// What a record is told in the end: 0, an errno, or one of these.
inline constexpr std::int32_t kFaultEndOfFile = -1;
inline constexpr std::int32_t kFaultChecksum = -2;

// Reads of whole blocks at block boundaries, in file and memory, can go around the page cache.
inline constexpr std::uint64_t kDirectBlock = 4096;

// Bytes between two records of one read at most, which are thrown away. Reading more of them takes
// a disk longer than a second request.
inline constexpr std::uint64_t kGreatestGap = 4096;
inline constexpr std::size_t kMostRecords = 128; // of one read

struct Record {
  std::uint32_t file;
  std::uint64_t offset, size; // bytes
  std::byte* target;
  std::uint64_t sum; // XXH3-64, where sums are checked
  std::int32_t* fault;

  std::uint64_t end() const { return offset + size; }
};

struct Batch;

// Records of one file, in rising order, that one system call can read. Used by one thread at a
// time.
class Read {
public:
  Read(Batch& batch, std::span<const Record> records);

  // Where and what to read next.
  struct Step {
    int fd;
    std::uint64_t offset;
    std::span<const iovec> memory;
  };
  using Memory = std::array<iovec, 2 * kMostRecords>;
  Step next_step(Memory& memory) const;
  // Takes the result of a step: bytes, or -errno. Returns how the read has ended, once it has: 0,
  // an errno or kFaultEndOfFile.
  std::optional<int> advance(std::int64_t result);
  // Tells every record what became of it. `ended`: how the read has ended. After EIO the
  // records that are missing are tried one by one, so that a bad block is the fault of its record.
  // Lets go of the files: others of the batch may need the descriptors.
  void end(int ended);

  Batch& batch() const { return *batch_; }
  std::uint64_t done() const { return done_; } // bytes from the beginning that have been read
  std::uint32_t file() const { return records_.front().file; }
  std::uint64_t offset() const { return records_.front().offset; }
  std::uint64_t size() const { return records_.back().end() - offset(); }
  bool can_go_direct() const; // whether file and memory have their block boundaries in one place

  // Copies the records from the bytes of their file, by copy_guarded().
  bool copy_from(std::span<const std::byte> file);
  // Begins again, with no file open.
  void restart();
  bool was_direct() const { return was_direct_; }

  OpenFileRef opened; // through the page cache
  OpenFileRef direct; // around it, if that is how it should be read

private:
  std::uint64_t position() const { return offset() + done_; }
  std::uint64_t rest() const { return size() - done_; }
  Step direct_step(Memory& memory) const;
  void settle(int ended) const;
  bool has(const Record& record) const;
  std::int32_t check(const Record& record) const;

  Batch* batch_;
  std::span<const Record> records_;
  std::uint64_t done_ = 0;
  bool was_direct_ = false;
};

// What one call asked for.
struct Batch {
  std::uint64_t ticket = 0;
  bool has_sums = false;
  std::vector<Record> records; // in the order of files and offsets
  std::vector<Read> reads;
  std::size_t taken = 0;             // reads that some thread has begun
  std::atomic<std::size_t> left = 0; // reads that have not ended
};

// Reads what is left, waiting for the disk. Returns how the read has ended.
int read_waiting(Read& read);
// Reads what the page cache holds. Returns how the read has ended, or nothing if the rest would
// have to be waited for.
std::optional<int> read_cached(Read& read);

} // namespace thinwire
