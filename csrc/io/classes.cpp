#include "io/classes.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace thinwire {

ClassCounts::ClassCounts(std::size_t limit) : limit_(limit) {
  if (limit == 0)
    throw InvalidArgument("classes is 0; at least one class must be counted");
}

void ClassCounts::add(std::string_view key) {
  if (last_ >= entries_.size() || entries_[last_].key != key)
    last_ = find(key);
  if (last_ < entries_.size() && entries_[last_].key == key) {
    ++entries_[last_].times;
    return;
  }
  if (last_ == limit_) { // behind all that are kept
    ++others_;
    return;
  }
  entries_.insert(entries_.begin() + static_cast<std::ptrdiff_t>(last_), {std::string(key), 1});
  if (entries_.size() > limit_) {
    others_ += entries_.back().times;
    entries_.pop_back();
  }
}

// Where the class is, or belongs.
std::size_t ClassCounts::find(std::string_view key) const {
  const auto place = std::lower_bound(
      entries_.begin(), entries_.end(), key,
      [](const Entry& entry, std::string_view wanted) { return entry.key < wanted; });
  return static_cast<std::size_t>(place - entries_.begin());
}

} // namespace thinwire
