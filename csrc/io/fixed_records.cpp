#include "io/fixed_records.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <string>

namespace thinwire {
namespace {

// Of the file that has this record; their number if none has it.
std::size_t file_of(const FixedRecords& records, std::int64_t number) {
  if (number < 0)
    return records.ends.size();
  return static_cast<std::size_t>(std::ranges::upper_bound(records.ends, number) -
                                  records.ends.begin());
}

} // namespace

FixedRequest::FixedRequest(const FixedRecords& records, std::span<const std::int64_t> numbers,
                           std::span<const Slot> slots)
    : files_(numbers.size()), offsets_(numbers.size()), sizes_(numbers.size(), records.bytes) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::size_t file = file_of(records, numbers[i]);
    files_[i] = static_cast<std::uint32_t>(file);
    if (file < records.bases.size())
      offsets_[i] = static_cast<std::uint64_t>(numbers[i]) * records.bytes +
                    static_cast<std::uint64_t>(records.bases[file]);
  }
  targets_.reserve(numbers.size());
  for (const Slot& slot : slots)
    for (std::size_t i = 0; i < slot.records; ++i)
      targets_.push_back(slot.address + i * records.bytes);
  if (targets_.size() != numbers.size())
    throw InvalidArgument(std::to_string(numbers.size()) +
                          " records are asked for, and slots hold " +
                          std::to_string(targets_.size()));
}

} // namespace thinwire
