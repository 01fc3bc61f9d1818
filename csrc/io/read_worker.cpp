#include "io/read_worker.hpp"

#include "io/page_cache.hpp"

#include <algorithm>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace thinwire {
namespace {

// Below it, going around the page cache costs more than it saves.
constexpr std::uint64_t kLeastDirectBytes = 1 << 20;

constexpr std::uint64_t kMostPrefetched = 4 << 10; // of a record, while the one before is copied

} // namespace

ReaderFiles::ReaderFiles(std::vector<std::string> names, DirectReads policy)
    : paths(std::move(names)), direct_reads(policy), cached(paths, 0, OpenFiles::default_most()),
      direct(paths, O_DIRECT, OpenFiles::default_most()) {}

bool ReaderFiles::outgrow_memory() {
  std::call_once(summed_, [this] {
    std::uint64_t bytes = 0;
    for (const std::string& path : paths)
      bytes += static_cast<std::uint64_t>(std::max<std::int64_t>(file_size(path), 0));
    const auto memory = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                        static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    outgrow_memory_ = bytes > memory;
  });
  return outgrow_memory_;
}

void ReadWorker::run() {
  ReadQueue::Work work;
  for (;;) {
    const bool is_open = queue_.take(work, reads_.count() == 0);
    copies_.begin();
    for (std::size_t i = 0; i < work.reads.size(); ++i) {
      if (i + 1 < work.reads.size())
        prefetch(*work.reads[i + 1]);
      begin(*work.reads[i]);
    }
    finish_copies();
    if (work.hint)
      fetch(*work.hint);
    reads_.collect(work.empty());
    if (!is_open && work.empty() && reads_.count() == 0)
      return;
  }
}

void ReadWorker::begin(Read& read) {
  const int error = open(read.file());
  if (error != 0 || read.size() == 0)
    return queue_.end(read, error);
  if (files_.direct_reads == DirectReads::always || !copies_.copy(read, last_opened_))
    start(read);
}

void ReadWorker::start(Read& read) {
  read.opened = last_opened_;
  // Where the file system has no direct reads, there are those through the page cache.
  if (should_go_direct(read) && files_.direct.open(read.file(), read.direct) != 0)
    read.direct.reset();
  reads_.start(read);
}

// What was copied from a file that has shrunk is read again, which tells where it ends now.
void ReadWorker::finish_copies() {
  copies_.finish([this](std::span<Read* const> reads, bool counts) {
    if (counts)
      return queue_.end(reads, 0);
    for (Read* read : reads) {
      read->restart();
      if (const int error = open(read->file()))
        queue_.end(*read, error);
      else
        start(*read);
    }
  });
}

// A small record is copied sooner than it arrives.
void ReadWorker::prefetch(const Read& read) const {
  if (read.size() <= kMostPrefetched && last_opened_ && last_file_ == read.file() &&
      last_opened_->hot.is_hot())
    last_opened_->hot.prefetch(read.offset(), read.size());
}

int ReadWorker::open(std::uint32_t file) {
  if (last_opened_ && last_file_ == file)
    return 0;
  last_file_ = file;
  return files_.cached.open(file, last_opened_);
}

bool ReadWorker::should_go_direct(const Read& read) {
  switch (files_.direct_reads) {
  case DirectReads::never:
    return false;
  case DirectReads::always:
    return read.can_go_direct();
  case DirectReads::automatic:
    return read.size() >= kLeastDirectBytes && read.can_go_direct() && files_.outgrow_memory() &&
           is_cold(read.opened->descriptor.get(), read.offset(), read.size());
  }
  return false;
}

void ReadWorker::fetch(const Hint& hint) {
  OpenFileRef file;
  if (files_.cached.open(hint.file, file) == 0)
    fetch_ahead(file->descriptor.get(), hint.offset, hint.bytes);
}

} // namespace thinwire
