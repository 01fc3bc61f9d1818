// Reads records of many files into memory of the caller's, on threads of its own, in parallel.
#pragma once

#include "io/read_plan.hpp"
#include "io/read_worker.hpp"
#include "transport/clock.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

namespace thinwire {

enum class ReadEngine : std::uint8_t { automatic, io_uring, preadv };

struct FileReaderOptions {
  unsigned threads = 0; // 0: one a core, four at most
  unsigned depth = 32;  // reads that wait for the disk at a time: of each thread with io_uring, of
                        // all with preadv
  ReadEngine engine = ReadEngine::automatic;
  DirectReads direct = DirectReads::automatic;
};

// Used by any thread of the process that made it. Every method but close() throws InvalidArgument
// in the child of a fork, where the reader's threads do not exist.
class FileReader {
public:
  // Opens nothing and starts no thread yet. Throws InvalidArgument; NotBuilt where io_uring is
  // asked for and cannot be had.
  FileReader(std::vector<std::string> paths, const FileReaderOptions& options);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  ReadEngine engine() const; // the one that is used: not `automatic`
  // Bytes of each file, as they are now; -errno where it cannot be said.
  std::vector<std::int64_t> sizes() const;

  // Begins to read and returns a ticket. Everything in the request but targets and faults may go
  // once this returns. Each fault becomes 0, an errno (ECANCELED after close()), kFaultEndOfFile
  // or kFaultChecksum.
  std::uint64_t submit(const Request& request);
  // Whether the reads of the ticket have ended, all of them; waits for them up to `limit`.
  bool wait(std::uint64_t ticket, Clock::duration limit);
  bool has_ended(std::uint64_t ticket) const; // the same, without waiting
  // Has the page cache filled in this order, whenever there is nothing to read.
  void ahead(const Places& places);

  ReaderStats stats() const;
  // Cancels what has not begun and waits for what has.
  void close();

private:
  class State;
  State& state() const;

  pid_t process_;
  std::unique_ptr<State> state_;
};

} // namespace thinwire
