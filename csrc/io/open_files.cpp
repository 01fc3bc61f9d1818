#include "io/open_files.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <new>
#include <sys/resource.h>
#include <sys/stat.h>
#include <utility>

namespace thinwire {
namespace {

// 0 if it is a file that records can be read from, at any offset.
int not_a_file(const struct stat& status) {
  if (S_ISREG(status.st_mode))
    return 0;
  return S_ISDIR(status.st_mode) ? EISDIR : ESPIPE;
}

// O_NONBLOCK, because to open a pipe would wait for its writer. It is taken back: io_uring fails
// reads of such a descriptor that would have to wait.
int open_for_reading(const std::string& path, int flags, Descriptor& opened) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags));
  struct stat status;
  if (!file || ::fstat(file.get(), &status) != 0)
    return errno;
  if (const int error = not_a_file(status))
    return error;
  if (::fcntl(file.get(), F_SETFL, flags) != 0)
    return errno;
  opened = std::move(file);
  return 0;
}

} // namespace

std::size_t OpenFiles::default_most() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return 64;
  return std::clamp<std::size_t>(limit.rlim_cur / 4, 1, 1024);
}

int OpenFiles::open(std::uint32_t file, OpenFileRef& found) try {
  if ((found = find(file)))
    return 0;
  const int error = open_now(paths_[file], found);
  if (error == 0)
    found = keep(file, std::move(found));
  return error;
} catch (const std::bad_alloc&) {
  return ENOMEM;
}

OpenFileRef OpenFiles::find(std::uint32_t file) {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(file);
  if (entry == entries_.end())
    return nullptr;
  ages_.splice(ages_.begin(), ages_, entry->second.age);
  return entry->second.file;
}

// Another thread may have opened the same file meanwhile: then its descriptor is used.
OpenFileRef OpenFiles::keep(std::uint32_t file, OpenFileRef opened) {
  OpenFileRef leaving; // closed without the lock
  const std::lock_guard lock(mutex_);
  if (const auto entry = entries_.find(file); entry != entries_.end())
    return entry->second.file;
  if (entries_.size() >= most_) {
    const auto oldest = entries_.find(ages_.back());
    leaving = std::move(oldest->second.file);
    entries_.erase(oldest);
    ages_.pop_back();
  }
  std::list age{file};
  entries_.try_emplace(file, opened, age.begin());
  ages_.splice(ages_.begin(), age);
  return opened;
}

// Without the lock: a network's file system may take its time.
int OpenFiles::open_now(const std::string& path, OpenFileRef& opened) {
  auto file = std::make_shared<OpenFile>();
  int error = open_for_reading(path, flags_, file->descriptor);
  if (error == EMFILE || error == ENFILE) { // others of the process need many: make do with few
    forget_all();
    error = open_for_reading(path, flags_, file->descriptor);
  }
  if (error == 0)
    opened = std::move(file);
  return error;
}

void OpenFiles::forget_all() {
  std::unordered_map<std::uint32_t, Entry> leaving; // closed without the lock
  const std::lock_guard lock(mutex_);
  leaving.swap(entries_);
  ages_.clear();
}

std::int64_t file_size(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0)
    return -errno;
  const int error = not_a_file(status);
  return error == 0 ? status.st_size : -error;
}

} // namespace thinwire
