// Records copied from hot files by one thread.
#pragma once

#include "io/read.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace thinwire {

// Of one read. A copy from the mapping takes three quarters of a system call's time, for records
// from 64 KiB to this size too.
inline constexpr std::uint64_t kMostHotBytes = std::uint64_t{1} << 20;

// Copies count only once finish() has seen that their files have not shrunk.
class HotCopies {
public:
  void begin();
  // Whether the records were copied from this file, which is that of the read.
  bool copy(Read& read, const OpenFileRef& file);
  // Calls finish(reads, counts) for the reads that were copied since begin(), those of one file at
  // a time.
  template <class Finish> void finish(Finish finish) {
    const bool slow = !copied_.empty() && had_major_faults();
    std::span<Read* const> left = copied_;
    for (const Run& run : runs_) {
      finish(left.first(run.reads), still_counts(*run.file, slow));
      left = left.subspan(run.reads);
    }
    copied_.clear();
    runs_.clear();
  }

private:
  // Reads of one file in a row. They share the reference: threads would wait for each other to
  // count one a read.
  struct Run {
    OpenFileRef file;
    std::size_t reads;
  };

  bool had_major_faults();
  static bool still_counts(OpenFile& file, bool slow);

  bool guarded_ = false;
  long major_faults_ = 0; // of this thread at begin()
  std::vector<Read*> copied_;
  std::vector<Run> runs_; // of copied_
};

} // namespace thinwire
