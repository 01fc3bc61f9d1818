#include "io/json_fields.hpp"

#include "core/error.hpp"

#include <iterator>

namespace thinwire {
namespace {

constexpr std::size_t kWaiting = 256; // values

void add_value(JsonField& field, const JsonMember& member) {
  switch (member.kind) {
  case JsonKind::number:
    ++field.numbers;
    return field.values.add(member.number);
  case JsonKind::boolean:
    ++field.booleans;
    return field.values.add(member.number);
  case JsonKind::string:
    ++field.strings;
    return field.lengths.add(static_cast<double>(member.text.size() - 2));
  case JsonKind::null:
    ++field.nulls;
    return;
  case JsonKind::nested:
    ++field.nested;
    return;
  }
}

} // namespace

void BufferedSummary::add(double value) {
  waiting_.push_back(value);
  if (waiting_.size() == kWaiting)
    flush();
}

void BufferedSummary::flush() {
  if (!summary_)
    summary_.emplace();
  summary_->add(waiting_.data(), waiting_.size());
  waiting_.clear();
}

const FieldSummary* BufferedSummary::summary() {
  if (!waiting_.empty())
    flush();
  return summary_ ? &*summary_ : nullptr;
}

JsonFields::JsonFields(std::size_t limit) : limit_(limit) {
  if (limit == 0)
    throw InvalidArgument("names is 0; at least one name must be kept");
}

void JsonFields::add(const std::vector<JsonMember>& members) {
  ++objects_;
  for (const JsonMember& member : members) {
    JsonField* field = field_of(member.name);
    if (field == nullptr) {
      ++other_members_;
    } else if (field->line != objects_) {
      field->line = objects_;
      add_value(*field, member);
    }
  }
}

// Null, if the name is not kept.
JsonField* JsonFields::field_of(std::string_view name) {
  const auto found = fields_.find(name);
  if (found != fields_.end())
    return &found->second;
  if (fields_.size() == limit_) {
    const auto last = std::prev(fields_.end());
    if (name > last->first)
      return nullptr;
    other_members_ += last->second.lines();
    fields_.erase(last);
  }
  return &fields_[std::string(name)];
}

} // namespace thinwire
