#include "io/json_line.hpp"

#include <charconv>
#include <limits>
#include <system_error>

namespace thinwire {
namespace {

// Reads from the front of a text. Every function returns whether it found what it looked for, and
// has then passed it.
class Scanner {
public:
  explicit Scanner(std::string_view text) : at_(text.data()), end_(at_ + text.size()) {}

  bool object(std::vector<JsonMember>& members) {
    if (!next('{'))
      return false;
    if (next('}'))
      return ended();
    do {
      JsonMember found{};
      std::string_view quoted;
      if (!(skip_space(), string(quoted)) || !next(':') || !(skip_space(), value(found)))
        return false;
      found.name = quoted.substr(1, quoted.size() - 2);
      members.push_back(found);
    } while (next(','));
    return next('}') && ended();
  }

private:
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  bool ended() {
    skip_space();
    return at_ == end_;
  }

  void skip_space() {
    while (at_ != end_ && is_space(*at_))
      ++at_;
  }

  bool next(char wanted) {
    skip_space();
    return here(wanted);
  }

  bool here(char wanted) {
    if (at_ == end_ || *at_ != wanted)
      return false;
    ++at_;
    return true;
  }

  bool value(JsonMember& found) {
    const char* start = at_;
    if (!kind_of_value(found))
      return false;
    found.text = {start, static_cast<std::size_t>(at_ - start)};
    return true;
  }

  bool kind_of_value(JsonMember& found) {
    std::string_view ignored;
    switch (at_ == end_ ? '\0' : *at_) {
    case '"':
      found.kind = JsonKind::string;
      return string(ignored);
    case '{':
    case '[':
      found.kind = JsonKind::nested;
      return nested();
    case 't':
      found.kind = JsonKind::boolean;
      found.number = 1;
      return word("true");
    case 'f':
      found.kind = JsonKind::boolean;
      return word("false");
    case 'n':
      found.kind = JsonKind::null;
      return word("null");
    default:
      found.kind = JsonKind::number;
      return number(found.number);
    }
  }

  bool word(std::string_view wanted) {
    if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(wanted))
      return false;
    at_ += wanted.size();
    return true;
  }

  bool string(std::string_view& quoted) {
    const char* start = at_;
    if (!here('"'))
      return false;
    for (; at_ != end_ && *at_ != '"'; ++at_) {
      if (static_cast<unsigned char>(*at_) < ' ') // must be escaped
        return false;
      if (*at_ == '\\' && ++at_ == end_)
        return false;
    }
    if (!here('"'))
      return false;
    quoted = {start, static_cast<std::size_t>(at_ - start)};
    return true;
  }

  bool digits() {
    const char* start = at_;
    while (at_ != end_ && is_digit(*at_))
      ++at_;
    return at_ != start;
  }

  // What is too great or too small for a double is, by its exponent, an infinity or zero.
  bool number(double& found) {
    const char* start = at_;
    const double sign = here('-') ? -1 : 1;
    bool is_small = here('0');
    if (!is_small && !digits())
      return false;
    if (here('.') && !digits())
      return false;
    if (here('e') || here('E')) {
      is_small = here('-');
      if (!is_small)
        here('+');
      if (!digits())
        return false;
    }
    if (std::from_chars(start, at_, found).ec == std::errc::result_out_of_range)
      found = sign * (is_small ? 0 : std::numeric_limits<double>::infinity());
    return true;
  }

  bool nested() {
    std::string_view ignored;
    open_.clear();
    do {
      switch (at_ == end_ ? '\0' : *at_) {
      case '"':
        if (!string(ignored))
          return false;
        continue;
      case '{':
      case '[':
        open_.push_back(*at_ == '{' ? '}' : ']');
        break;
      case '}':
      case ']':
        if (open_.back() != *at_)
          return false;
        open_.pop_back();
        break;
      case '\0':
        return false;
      default:
        break;
      }
      ++at_;
    } while (!open_.empty());
    return true;
  }

  const char *at_, *end_;
  std::vector<char> open_; // the brackets that must follow, the next one last
};

} // namespace

bool parse_json_line(std::string_view line, std::vector<JsonMember>& members) {
  return Scanner(line).object(members);
}

} // namespace thinwire
