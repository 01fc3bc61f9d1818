// How often each class occurs, for a bounded number of classes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thinwire {

// Counts the classes whose keys come first in the order of bytes on their own, and the others
// together. What was counted for a class that stays is exact, and depends on no order of calls.
class ClassCounts {
public:
  struct Entry {
    std::string key;
    std::uint64_t times;
  };

  // Throws InvalidArgument for a limit of 0.
  explicit ClassCounts(std::size_t limit);

  void add(std::string_view key);

  std::span<const Entry> entries() const { return entries_; } // sorted by key
  std::uint64_t others() const { return others_; }

private:
  std::size_t find(std::string_view key) const;

  std::size_t limit_, last_ = 0; // last_: where the class of the call before is, as classes run
  std::vector<Entry> entries_;
  std::uint64_t others_ = 0;
};

} // namespace thinwire
