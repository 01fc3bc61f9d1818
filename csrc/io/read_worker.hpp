// A thread of a reader: takes reads from the queue, opens their files and starts them.
#pragma once

#include "io/hot_copies.hpp"
#include "io/open_files.hpp"
#include "io/read_queue.hpp"
#include "io/reads_under_way.hpp"

#include <mutex>
#include <string>
#include <vector>

namespace thinwire {

enum class DirectReads : std::uint8_t {
  // Those of 1 MiB or more that the page cache does not hold, where it could never hold all files:
  // others are read once from the disk and then from memory.
  automatic,
  never,
  always, // whenever file and memory have their block boundaries in one place
};

// The files of a reader, shared by its threads.
struct ReaderFiles {
  ReaderFiles(std::vector<std::string> names, DirectReads policy);

  const std::vector<std::string> paths;
  const DirectReads direct_reads;
  OpenFiles cached, direct;

  // Whether the files together are larger than the machine's memory; found out at the first call.
  bool outgrow_memory();

private:
  std::once_flag summed_;
  bool outgrow_memory_ = false;
};

class ReadWorker {
public:
  ReadWorker(ReaderFiles& files, ReadQueue& queue, ReadsUnderWay& reads)
      : files_(files), queue_(queue), reads_(reads) {}

  void run(); // until the queue is closed

private:
  void begin(Read& read);
  void prefetch(const Read& read) const;
  int open(std::uint32_t file); // 0 or an errno
  void start(Read& read);       // whose file was opened last
  void finish_copies();
  void fetch(const Hint& hint);
  bool should_go_direct(const Read& read);

  ReaderFiles& files_;
  ReadQueue& queue_;
  ReadsUnderWay& reads_;
  // Of the read before: reads come sorted by file, and to look it up takes a lock.
  std::uint32_t last_file_ = 0;
  OpenFileRef last_opened_;
  HotCopies copies_;
};

} // namespace thinwire
