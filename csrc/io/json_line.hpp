// The top level of one JSON object (RFC 8259): its names and what kind of value each has.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace thinwire {

enum class JsonKind : unsigned char { number, string, boolean, null, nested };

// Views into the line.
struct JsonMember {
  std::string_view name; // between the quotes, escapes as they are written
  std::string_view text; // of the value; with the quotes of a string
  JsonKind kind;
  double number; // a boolean's is 0 or 1; 0 for the others
};

// Whether `line` is one object, with nothing but white space around it. Nested values are passed
// over: their strings and brackets must be closed, but nobody looks between them. Appends the
// members, which are to be ignored where the answer is no.
bool parse_json_line(std::string_view line, std::vector<JsonMember>& members);

} // namespace thinwire
