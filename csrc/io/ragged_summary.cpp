#include "io/ragged_summary.hpp"

#include "core/error.hpp"

#include <string_view>
#include <utility>

namespace thinwire {
namespace {

std::string_view without_line_end(std::string_view line) {
  if (line.ends_with('\n'))
    line.remove_suffix(1);
  if (line.ends_with('\r'))
    line.remove_suffix(1);
  return line;
}

void check(std::span<const std::int64_t> offsets) {
  if (offsets.empty() || offsets.front() < 0)
    throw InvalidArgument("offsets begins with an offset of 0 or more");
  for (std::size_t i = 1; i < offsets.size(); ++i)
    if (offsets[i] < offsets[i - 1])
      throw InvalidArgument("offsets falls from " + std::to_string(offsets[i - 1]) + " to " +
                            std::to_string(offsets[i]) + " at record " + std::to_string(i - 1));
}

} // namespace

RaggedSummary::RaggedSummary(RaggedOptions options) : options_(std::move(options)) {
  if (options_.names > 0)
    json_.emplace(options_.names);
  if (!options_.label.empty())
    classes_.emplace(options_.classes);
  if (options_.distinct > 0)
    distinct_.emplace(options_.distinct);
}

void RaggedSummary::add(const std::byte* base, std::span<const std::int64_t> offsets) {
  check(offsets);
  std::vector<double> sizes;
  sizes.reserve(offsets.size());
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    std::string_view record(reinterpret_cast<const char*>(base) + offsets[i],
                            static_cast<std::size_t>(offsets[i + 1] - offsets[i]));
    if (json_)
      add_line(record = without_line_end(record));
    sizes.push_back(static_cast<double>(record.size()));
    if (distinct_)
      distinct_->add(std::as_bytes(std::span(record)));
  }
  records_ += sizes.size();
  sizes_.add(sizes.data(), sizes.size());
}

void RaggedSummary::add_line(std::string_view line) {
  members_.clear();
  if (!parse_json_line(line, members_)) {
    ++malformed_;
    return;
  }
  json_->add(members_);
  if (!classes_)
    return;
  for (const JsonMember& member : members_)
    if (member.name == options_.label && member.kind != JsonKind::null &&
        member.kind != JsonKind::nested)
      return classes_->add(member.text);
}

} // namespace thinwire
