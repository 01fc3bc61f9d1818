#include "io/record_summary.hpp"

#include "core/error.hpp"

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace thinwire {
namespace {

bool is_integer(ValueType type) { return type <= ValueType::uint64; }

void check(const RecordLayout& layout) {
  for (std::size_t i = 0; i < layout.fields.size(); ++i) {
    const FieldLayout& field = layout.fields[i];
    if (field.offset > layout.bytes || field.bytes() > layout.bytes - field.offset)
      throw InvalidArgument("field " + std::to_string(i) + " ends beyond the record of " +
                            std::to_string(layout.bytes) + " bytes");
  }
  if (!layout.label)
    return;
  if (*layout.label >= layout.fields.size())
    throw InvalidArgument("the label is field " + std::to_string(*layout.label) + " of " +
                          std::to_string(layout.fields.size()));
  const FieldLayout& label = layout.fields[*layout.label];
  if (label.type && !is_integer(*label.type))
    throw InvalidArgument("a label is an integer or text, not a floating-point number");
}

std::string_view text_of(const std::byte* first, std::size_t bytes) {
  const std::string_view padded(reinterpret_cast<const char*>(first), bytes);
  return padded.substr(0, padded.find_last_not_of('\0') + 1);
}

void add_texts(const Values& values, FieldSummary& summary) {
  for (std::size_t r = 0; r < values.rows; ++r) {
    const auto size = text_of(values.first + r * values.stride, values.count).size();
    const auto length = static_cast<double>(size);
    if (size == 0)
      summary.add_missing(1);
    else
      summary.add(&length, 1);
  }
}

// Little-endian, of any width, widened to 64 bits.
std::uint64_t load_integer(const std::byte* from, std::size_t bytes, bool is_signed) {
  std::uint64_t value = 0;
  std::memcpy(&value, from, bytes);
  const auto unused = static_cast<unsigned>(64 - 8 * bytes);
  if (!is_signed)
    return value;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(value << unused) >> unused);
}

} // namespace

RecordSummary::RecordSummary(RecordLayout layout) : layout_(std::move(layout)) {
  check(layout_);
  for (const FieldLayout& field : layout_.fields)
    fields_.emplace_back(field.missing);
  if (layout_.label)
    classes_.emplace(layout_.classes);
  if (layout_.distinct > 0)
    distinct_.emplace(layout_.distinct);
}

void RecordSummary::add(const std::byte* first, std::size_t rows, std::size_t stride) {
  if (stride < layout_.bytes)
    throw InvalidArgument("records of " + std::to_string(layout_.bytes) + " bytes do not lie " +
                          std::to_string(stride) + " bytes apart");
  records_ += rows;
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    const FieldLayout& field = layout_.fields[i];
    const Values values{first + field.offset, rows, stride, field.count};
    if (field.type)
      fields_[i].add(values, *field.type);
    else
      add_texts(values, fields_[i]);
    if (layout_.label == i)
      add_label(values);
  }
  if (distinct_)
    distinct_->add_rows(first, rows, stride, layout_.bytes);
}

void RecordSummary::add_label(const Values& values) {
  const FieldLayout& field = layout_.fields[*layout_.label];
  for (std::size_t r = 0; r < values.rows; ++r) {
    const std::byte* row = values.first + r * values.stride;
    if (!field.type) {
      classes_->add(text_of(row, values.count));
      continue;
    }
    const std::size_t width = value_bytes(*field.type);
    const bool is_signed = is_signed_integer(*field.type);
    for (std::size_t i = 0; i < values.count; ++i) {
      const std::uint64_t flip = is_signed ? std::uint64_t{1} << 63 : 0;
      const std::uint64_t key =
          __builtin_bswap64(load_integer(row + i * width, width, is_signed) ^ flip);
      classes_->add({reinterpret_cast<const char*>(&key), sizeof key});
    }
  }
}

} // namespace thinwire
