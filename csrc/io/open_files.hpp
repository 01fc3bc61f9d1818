// The files of a data set, opened when they are read from, so many at a time as descriptors allow.
#pragma once

#include "io/hot_file.hpp"
#include "transport/descriptor.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace thinwire {

struct OpenFile {
  Descriptor descriptor;
  std::atomic<bool> tells_cached = true; // whether reads that must not wait (RWF_NOWAIT) work here
  HotFile hot;
};

// Closed when the last read of it has ended.
using OpenFileRef = std::shared_ptr<OpenFile>;

// Used by any thread. The file that was used longest ago makes room for a new one.
class OpenFiles {
public:
  // flags: of open(2), beside O_RDONLY. most: open at a time, not counting those still being read.
  OpenFiles(const std::vector<std::string>& paths, int flags, std::size_t most)
      : paths_(paths), flags_(flags), most_(most) {}

  // 0, or the errno that says why the file cannot be read.
  int open(std::uint32_t file, OpenFileRef& found);

  // The file if it is open, else null.
  OpenFileRef find(std::uint32_t file);

  // A share of what the process may open: at most a quarter, and never more than 1024.
  static std::size_t default_most();

private:
  struct Entry {
    OpenFileRef file;
    std::list<std::uint32_t>::iterator age;
  };

  OpenFileRef keep(std::uint32_t file, OpenFileRef opened);
  int open_now(const std::string& path, OpenFileRef& opened);
  void forget_all();

  const std::vector<std::string>& paths_;
  const int flags_;
  const std::size_t most_;
  std::mutex mutex_;
  std::list<std::uint32_t> ages_; // the one used last in front
  std::unordered_map<std::uint32_t, Entry> entries_;
};

// Bytes of a file, or -errno: -EISDIR for a directory, -ESPIPE for what is no file, such as a pipe.
std::int64_t file_size(const std::string& path);

} // namespace thinwire
