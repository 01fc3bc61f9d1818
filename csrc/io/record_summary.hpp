// What is known of records that all have one layout.
#pragma once

#include "io/classes.hpp"
#include "io/duplicates.hpp"
#include "io/summary.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace thinwire {

// A field of a record: `count` numbers side by side, or, where there is no type, one text of
// `count` bytes that ends before its trailing zeros.
struct FieldLayout {
  std::optional<ValueType> type;
  std::size_t offset, count;
  std::optional<double> missing; // a number that stands for none

  std::size_t bytes() const { return count * (type ? value_bytes(*type) : 1); }
};

struct RecordLayout {
  std::size_t bytes;
  std::vector<FieldLayout> fields;
  std::optional<std::size_t> label; // the field whose values are classes
  std::size_t classes;              // that are counted on their own
  std::size_t distinct;             // digests that are kept, none: duplicates are not looked for
};

class RecordSummary {
public:
  // Throws InvalidArgument for a field beyond the record, and for a label that is no integer or
  // text.
  explicit RecordSummary(RecordLayout layout);

  // Throws InvalidArgument where `stride` is shorter than a record.
  void add(const std::byte* first, std::size_t rows, std::size_t stride);

  std::uint64_t records() const { return records_; }
  // Of a text, the summary is of its bytes; the missing ones are the empty ones.
  const std::vector<FieldSummary>& fields() const { return fields_; }
  // The key of an integer: its eight bytes, most significant first, the sign bit of a signed one
  // flipped; so that keys are ordered as integers are.
  const std::optional<ClassCounts>& classes() const { return classes_; }
  const std::optional<DistinctSample>& distinct() const { return distinct_; }

private:
  void add_label(const Values& values);

  RecordLayout layout_;
  std::uint64_t records_ = 0;
  std::vector<FieldSummary> fields_;
  std::optional<ClassCounts> classes_;
  std::optional<DistinctSample> distinct_;
};

} // namespace thinwire
