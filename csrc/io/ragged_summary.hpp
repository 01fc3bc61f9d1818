// What is known of records that differ in size: their sizes, copies, and, of JSON, their members.
#pragma once

#include "io/classes.hpp"
#include "io/duplicates.hpp"
#include "io/json_fields.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace thinwire {

struct RaggedOptions {
  std::size_t distinct; // digests that are kept, none: duplicates are not looked for
  std::size_t names;    // of JSON members that are kept, none: records are not JSON
  std::string label;    // the member whose values are classes; none, if empty
  std::size_t classes;
};

class RaggedSummary {
public:
  explicit RaggedSummary(RaggedOptions options);

  // Record i lies from offsets[i] to offsets[i + 1]. Throws InvalidArgument for falling offsets.
  void add(const std::byte* base, std::span<const std::int64_t> offsets);

  std::uint64_t records() const { return records_; }
  std::uint64_t malformed() const { return malformed_; } // no JSON object
  const FieldSummary& sizes() const { return sizes_; }
  const std::optional<ClassCounts>& classes() const { return classes_; } // by JSON text
  const std::optional<DistinctSample>& distinct() const { return distinct_; }
  std::optional<JsonFields>& json() { return json_; }

private:
  void add_line(std::string_view line);

  RaggedOptions options_;
  std::uint64_t records_ = 0, malformed_ = 0;
  FieldSummary sizes_;
  std::optional<JsonFields> json_;
  std::optional<ClassCounts> classes_;
  std::optional<DistinctSample> distinct_;
  std::vector<JsonMember> members_; // of the line at hand
};

} // namespace thinwire
