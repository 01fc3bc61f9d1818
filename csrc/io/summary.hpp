// What is known of the values of one field, from one pass over them.
#pragma once

#include "io/histogram.hpp"
#include "io/moments.hpp"
#include "io/value_type.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

namespace thinwire {

// Values in memory, of any alignment: `count` side by side in each of `rows` rows.
struct Values {
  const std::byte* first;
  std::size_t rows, stride; // bytes from one row to the next
  std::size_t count;
};

// Least, greatest and moments are of the finite values. Integers beyond 2^53 are rounded to fp64.
struct Counters {
  std::uint64_t values = 0; // all but the missing ones
  std::uint64_t missing = 0, nan = 0, positive_infinity = 0, negative_infinity = 0, zeros = 0;
  double least = std::numeric_limits<double>::infinity();
  double greatest = -std::numeric_limits<double>::infinity();
  Moments moments;
};

class FieldSummary {
public:
  // What equals `missing` stands for a value that is not there.
  explicit FieldSummary(std::optional<double> missing = {}) : missing_(missing), bins_(kBins) {}

  void add(const Values& values, ValueType type);
  void add(const double* values, std::size_t count);
  void add_missing(std::uint64_t count) { counters_.missing += count; }

  const Counters& counters() const { return counters_; }
  // Of the finite values.
  Histogram histogram() const;

private:
  template <class Stored, class Wide> void add_rows(const Values& values);
  template <class Stored> void add_bytes(const Values& values);
  void add_times(float value, std::uint64_t times);
  template <class Wide> void add_block(Wide* block, std::size_t count);

  std::optional<double> missing_;
  Counters counters_;
  Histogram bins_;
};

} // namespace thinwire
