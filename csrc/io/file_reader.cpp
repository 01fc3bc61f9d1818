#include "io/file_reader.hpp"

#include "core/error.hpp"
#include "core/parallel.hpp"
#include "io/blocking_reads.hpp"
#include "io/hot_copies.hpp"
#include "io/reader_thread.hpp"
#include "io/ring_reads.hpp"

#include <algorithm>
#include <mutex>
#include <system_error>
#include <thread>
#include <unistd.h>

namespace thinwire {
namespace {

constexpr unsigned kMostThreads = 256;
constexpr unsigned kMostDepth = 4096;
constexpr std::uint64_t kMostBytesNow = 256 << 10; // copied while submit() is called
constexpr unsigned kDefaultThreads = 4;            // more than copying from the page cache needs

ReadEngine choose(ReadEngine wanted) {
  if (wanted == ReadEngine::preadv)
    return wanted;
  const std::string reason = Uring::why_not();
  if (reason.empty())
    return ReadEngine::io_uring;
  if (wanted == ReadEngine::io_uring)
    throw NotBuilt(reason);
  return ReadEngine::preadv;
}

void check(const FileReaderOptions& options) {
  if (options.threads > kMostThreads)
    throw InvalidArgument("threads is " + std::to_string(options.threads) + "; at most " +
                          std::to_string(kMostThreads));
  if (options.depth == 0 || options.depth > kMostDepth)
    throw InvalidArgument("depth is " + std::to_string(options.depth) + "; it must be 1 to " +
                          std::to_string(kMostDepth));
}

} // namespace

class FileReader::State {
public:
  State(std::vector<std::string> paths, const FileReaderOptions& options)
      : engine(choose(options.engine)), files(std::move(paths), options.direct),
        depth_(options.depth),
        thread_count_(options.threads != 0 ? options.threads
                                           : std::min(thread_count(0), kDefaultThreads)) {}
  ~State() { close(); }

  // At the first use.
  void start_threads() {
    const std::lock_guard lock(mutex_);
    if (!threads_.empty() || closed_)
      return;
    for (unsigned i = 0; i < thread_count_; ++i) {
      if (engine == ReadEngine::io_uring)
        waiting_.push_back(std::make_unique<RingReads>(depth_, queue));
      else if (waiting_.empty())
        waiting_.push_back(std::make_unique<BlockingReads>(depth_, queue));
      if (!add_thread(*waiting_.back()))
        return; // no more to be had: those there are do all the work
    }
  }

  // Copies a small batch of hot files, which takes less time than to wake another thread. Returns
  // whether that was all of it; if not, nothing has been done.
  bool copy_now(Batch& batch) {
    const bool all = find_hot(batch) && copy_hot(batch);
    for (Read& read : batch.reads)
      all ? read.end(0) : read.restart();
    return all;
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    queue.close();
    for (std::thread& thread : threads_)
      thread.join();
    threads_.clear();
    waiting_.clear();
  }

  const ReadEngine engine;
  ReaderFiles files;
  ReadQueue queue;

private:
  bool find_hot(Batch& batch) {
    if (files.direct_reads == DirectReads::always)
      return false;
    std::uint64_t bytes = 0;
    for (const Read& read : batch.reads)
      bytes += read.size();
    if (bytes > kMostBytesNow)
      return false;
    const Read* last = nullptr;
    for (Read& read : batch.reads) {
      read.opened = last != nullptr && last->file() == read.file() ? last->opened
                                                                   : files.cached.find(read.file());
      if (!read.opened || !read.opened->hot.is_hot() || read.size() == 0)
        return false;
      read.opened->hot.prefetch(read.offset(), read.size());
      last = &read;
    }
    return true;
  }

  static bool copy_hot(Batch& batch) {
    HotCopies copies;
    copies.begin();
    bool all = std::ranges::all_of(batch.reads,
                                   [&](Read& read) { return copies.copy(read, read.opened); });
    copies.finish([&](std::span<Read* const>, bool counts) { all = all && counts; });
    return all;
  }

  bool add_thread(ReadsUnderWay& reads) {
    try {
      threads_.emplace_back([this, &reads] {
        begin_reader_thread();
        ReadWorker(files, queue, reads).run();
      });
      return true;
    } catch (const std::system_error& error) {
      if (threads_.empty())
        throw Error(std::string("the reader cannot start a thread: ") + error.what());
      return false;
    }
  }

  const unsigned depth_, thread_count_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<ReadsUnderWay>> waiting_; // one a thread, or one for all
  std::vector<std::thread> threads_;
  bool closed_ = false;
};

FileReader::FileReader(std::vector<std::string> paths, const FileReaderOptions& options)
    : process_(::getpid()) {
  check(options);
  state_ = std::make_unique<State>(std::move(paths), options);
}

FileReader::~FileReader() {
  if (::getpid() != process_)
    static_cast<void>(state_.release()); // its threads and locks are the parent's
}

FileReader::State& FileReader::state() const {
  if (::getpid() != process_)
    throw InvalidArgument("this reader was made before a fork and cannot be used in the child; "
                          "open one in the process that reads");
  return *state_;
}

ReadEngine FileReader::engine() const { return state().engine; }

std::vector<std::int64_t> FileReader::sizes() const {
  const std::vector<std::string>& paths = state().files.paths;
  constexpr std::size_t kTask = 64; // files
  std::vector<std::int64_t> sizes(paths.size());
  parallel_for((paths.size() + kTask - 1) / kTask, kDefaultThreads, [&](std::size_t task) {
    for (std::size_t i = task * kTask; i < std::min(paths.size(), (task + 1) * kTask); ++i)
      sizes[i] = file_size(paths[i]);
  });
  return sizes;
}

std::uint64_t FileReader::submit(const Request& request) {
  State& reader = state();
  auto batch = plan_reads(request, reader.files.paths.size());
  if (reader.copy_now(*batch))
    return reader.queue.add_ended(*batch);
  reader.start_threads();
  return reader.queue.submit(std::move(batch));
}

bool FileReader::wait(std::uint64_t ticket, Clock::duration limit) {
  return state().queue.wait(ticket, limit);
}

bool FileReader::has_ended(std::uint64_t ticket) const { return state().queue.has_ended(ticket); }

void FileReader::ahead(const Places& places) {
  State& reader = state();
  const std::vector<Hint> hints = plan_hints(places, reader.files.paths.size());
  reader.start_threads();
  reader.queue.add_hints(hints);
}

ReaderStats FileReader::stats() const { return state().queue.stats(); }

void FileReader::close() {
  if (::getpid() == process_)
    state_->close();
}

} // namespace thinwire
