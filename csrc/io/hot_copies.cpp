#include "io/hot_copies.hpp"

#include "core/guarded_copy.hpp"

#include <sys/resource.h>

namespace thinwire {
namespace {

long major_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_majflt;
}

} // namespace

void HotCopies::begin() {
  guarded_ = copies_are_guarded();
  major_faults_ = major_faults();
}

bool HotCopies::copy(Read& read, const OpenFileRef& file) {
  if (!guarded_ || read.size() > kMostHotBytes)
    return false;
  const auto bytes = file->hot.bytes(file->descriptor.get());
  if (bytes.empty() || !read.copy_from(bytes))
    return false;
  copied_.push_back(&read);
  if (runs_.empty() || runs_.back().file != file)
    runs_.push_back({file, 0});
  ++runs_.back().reads;
  return true;
}

// Whether a page had to be fetched from the disk, while everything else waited.
bool HotCopies::had_major_faults() { return major_faults() != major_faults_; }

bool HotCopies::still_counts(OpenFile& file, bool slow) {
  const bool shrunk = file.hot.has_shrunk(file.descriptor.get());
  if (slow || shrunk)
    file.hot.cool();
  return !shrunk;
}

} // namespace thinwire
