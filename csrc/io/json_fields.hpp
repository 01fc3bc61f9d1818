// What is known of the members of JSON objects, one a line.
#pragma once

#include "io/json_line.hpp"
#include "io/summary.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thinwire {

// Of values that come one by one, which are summarised many at a time. Takes no memory to speak of
// before there is a value.
class BufferedSummary {
public:
  void add(double value);
  const FieldSummary* summary(); // null, if there was no value

private:
  void flush();

  std::vector<double> waiting_;
  std::optional<FieldSummary> summary_;
};

struct JsonField {
  std::uint64_t numbers = 0, strings = 0, booleans = 0, nulls = 0, nested = 0;
  BufferedSummary values;  // numbers, and booleans as 0 and 1
  BufferedSummary lengths; // bytes of strings, as they are written between the quotes
  std::uint64_t line = 0;  // the last one that had it

  std::uint64_t lines() const { return numbers + strings + booleans + nulls + nested; }
};

class JsonFields {
public:
  using Map = std::map<std::string, JsonField, std::less<>>;

  // Keeps the names that come first in the order of bytes; InvalidArgument for a limit of 0.
  explicit JsonFields(std::size_t limit);

  // The members of one object; of members of one name, the first.
  void add(const std::vector<JsonMember>& members);

  std::uint64_t objects() const { return objects_; }
  std::uint64_t other_members() const { return other_members_; } // of the names that are not kept
  Map& by_name() { return fields_; }

private:
  JsonField* field_of(std::string_view name);

  std::size_t limit_;
  std::uint64_t objects_ = 0, other_members_ = 0;
  Map fields_;
};

} // namespace thinwire
