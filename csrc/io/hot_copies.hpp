// Records copied from hot files by one thread.
#pragma once

#include "io/read.hpp"

#include <vector>

namespace thinwire {

// Of one read. A copy from the mapping takes three quarters of a system call's time, for records
// from 64 KiB to this size too.
inline constexpr std::uint64_t kMostHotBytes = std::uint64_t{1} << 20;

// Copies count only once finish() has seen that their files have not shrunk.
class HotCopies {
public:
  void begin();
  // Whether the records were copied; the file of the read has been opened.
  bool copy(Read& read);
  // Calls finish(read, counts) for each read that was copied since begin().
  template <class Finish> void finish(Finish finish) {
    const bool slow = !copied_.empty() && had_major_faults();
    const OpenFile* file = nullptr;
    bool counts = true;
    for (Read* read : copied_) {
      if (file != read->opened.get()) { // they come sorted by file
        file = read->opened.get();
        counts = still_counts(*read->opened, slow);
      }
      finish(*read, counts);
    }
    copied_.clear();
  }

private:
  bool had_major_faults();
  static bool still_counts(OpenFile& file, bool slow);

  bool guarded_ = false;
  long major_faults_ = 0; // of this thread at begin()
  std::vector<Read*> copied_;
};

} // namespace thinwire
