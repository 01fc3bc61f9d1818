#include "codec/spec.hpp"

#include "core/error.hpp"

#include <bit>
#include <cmath>
#include <cstdio>

namespace thinwire {
namespace {

// What the registry knows of a codec at run time.
struct Entry {
  const char* name;
  CodecSpec defaults;
  std::vector<double> error_bounds; // one a format
  ErrorNorm error_norm;
  bool has_rounding = false, has_rotation = false;
  std::uint32_t smallest_block = 0; // block codecs only
  unsigned radix = 0;               // block codecs only
  DType element = DType::fp32;      // cast codecs only
};

template <class C> Entry entry_of() {
  Entry entry{.name = C::kName,
              .defaults = {.wire_id = C::kWireId},
              .error_bounds = {},
              .error_norm = C::kErrorNorm};
  FormatsOf<C>::for_each([&]<class F>() { entry.error_bounds.push_back(F::kErrorBound); });
  if constexpr (BlockCodec<C>) {
    entry.defaults.block = C::kDefaultBlock;
    entry.has_rounding = C::kHasRounding;
    entry.has_rotation = C::kHasRotation;
    entry.smallest_block = C::kSmallestBlock;
    entry.radix = C::kRadix;
  } else if constexpr (CastCodec<C>) {
    entry.element = C::kElement;
  } else {
    entry.defaults.density = C::kDefaultDensity;
  }
  return entry;
}

const std::vector<Entry>& entries() {
  static const std::vector<Entry> all = [] {
    std::vector<Entry> found;
    Codecs::for_each([&]<class C>() { found.push_back(entry_of<C>()); });
    return found;
  }();
  return all;
}

const Entry& entry(const CodecSpec& spec) {
  for (const Entry& e : entries())
    if (e.defaults.wire_id == spec.wire_id)
      return e;
  throw InvalidArgument("no codec has the wire id " + std::to_string(spec.wire_id));
}

const Entry& entry(const std::string& name) {
  std::string known;
  for (const Entry& e : entries()) {
    if (name == e.name)
      return e;
    known += (known.empty() ? "" : ", ") + std::string(e.name);
  }
  throw InvalidArgument("unknown codec '" + name + "'; there are: " + known);
}

// "int4 and int2" of {"int4", "int2"}
std::string listed(const std::vector<std::string>& words, const char* last) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? last : ", ") + words[i];
  return text;
}

// Throws unless the codec `spec` has the parameter.
void check_has(bool (CodecSpec::*has)() const, const CodecSpec& spec, const char* parameter) {
  if ((spec.*has)())
    return;
  std::vector<std::string> others;
  for (const Entry& e : entries())
    if ((e.defaults.*has)())
      others.push_back(e.name);
  throw InvalidArgument("codec " + std::string(spec.name()) + " has no parameter '" + parameter +
                        "'; it is one of " + listed(others, " and "));
}

// "32, 64, 128, ... or 4096"
std::string block_sizes(const Entry& e) {
  std::vector<std::string> sizes;
  for (std::uint32_t block = e.smallest_block; block <= kLargestBlock; block *= 2)
    sizes.push_back(std::to_string(block));
  return listed(sizes, " or ");
}

std::uint32_t checked_block(const Entry& e, std::uint32_t block) {
  if (block % e.smallest_block != 0 || !std::has_single_bit(block / e.smallest_block) ||
      block > kLargestBlock)
    throw InvalidArgument("block is " + std::to_string(block) + "; it must be " + block_sizes(e));
  return block;
}

Rounding parsed_rounding(const std::string& text) {
  for (Rounding r : {Rounding::nearest, Rounding::stochastic})
    if (text == name(r))
      return r;
  throw InvalidArgument("rounding is '" + text + "'; it must be nearest or stochastic");
}

TopKValues parsed_values(const std::string& text) {
  for (TopKValues v : {TopKValues::sign, TopKValues::int8, TopKValues::fp16})
    if (text == name(v))
      return v;
  throw InvalidArgument("values is '" + text + "'; it must be sign, int8 or fp16");
}

Fp8Format parsed_format(const std::string& text) {
  for (Fp8Format f : {Fp8Format::e4m3, Fp8Format::e5m2})
    if (text == name(f))
      return f;
  throw InvalidArgument("format is '" + text + "'; it must be e4m3 or e5m2");
}

std::uint32_t checked_density(double density) {
  const double millionths = std::round(density * 1e6);
  if (!(millionths >= 1 && millionths <= TopK::kLargestDensity)) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", density);
    throw InvalidArgument(std::string("density is ") + text + "; it must be from 0.000001 to 0.5");
  }
  return static_cast<std::uint32_t>(millionths);
}

} // namespace

const char* name(Rounding rounding) {
  return rounding == Rounding::nearest ? "nearest" : "stochastic";
}

const char* name(TopKValues values) {
  return values == TopKValues::sign ? "sign" : values == TopKValues::int8 ? "int8" : "fp16";
}

const char* name(Fp8Format format) { return format == Fp8Format::e4m3 ? "e4m3" : "e5m2"; }

CodecSpec CodecSpec::make(const std::string& name, std::uint32_t block, const std::string& rounding,
                          double density, const std::string& values, const std::string& format,
                          std::optional<bool> rotate) {
  const Entry& e = entry(name);
  CodecSpec spec = e.defaults;
  if (block != 0) {
    check_has(&CodecSpec::has_block, spec, "block");
    spec.block = checked_block(e, block);
  }
  if (!rounding.empty()) {
    check_has(&CodecSpec::has_rounding, spec, "rounding");
    spec.rounding = parsed_rounding(rounding);
  }
  if (density != 0) {
    check_has(&CodecSpec::has_density, spec, "density");
    spec.density = checked_density(density);
  }
  if (!values.empty()) {
    check_has(&CodecSpec::has_density, spec, "values");
    spec.values = parsed_values(values);
  }
  if (!format.empty()) {
    check_has(&CodecSpec::has_format, spec, "format");
    spec.format = parsed_format(format);
  }
  if (rotate) {
    check_has(&CodecSpec::has_rotation, spec, "rotate");
    spec.rotate = *rotate;
  }
  return spec;
}

const char* CodecSpec::name() const { return entry(*this).name; }
bool CodecSpec::has_block() const { return block != 0; }
std::uint32_t CodecSpec::smallest_block() const { return entry(*this).smallest_block; }
unsigned CodecSpec::radix() const { return entry(*this).radix; }
bool CodecSpec::has_rounding() const { return entry(*this).has_rounding; }
bool CodecSpec::has_density() const { return density != 0; }
bool CodecSpec::has_format() const { return entry(*this).error_bounds.size() > 1; }
bool CodecSpec::has_rotation() const { return entry(*this).has_rotation; }

double CodecSpec::error_bound() const {
  const Entry& e = entry(*this);
  const double each =
      e.error_bounds[static_cast<std::size_t>(format)] * (rounding == Rounding::stochastic ? 2 : 1);
  // No rotated value is greater than their norm, and each has this error.
  return rotate && e.error_norm == ErrorNorm::max ? each * std::sqrt(block) : each;
}
ErrorNorm CodecSpec::error_norm() const { return rotate ? ErrorNorm::l2 : entry(*this).error_norm; }

std::uint32_t CodecSpec::param() const {
  if (has_density())
    return density | static_cast<std::uint32_t>(values) << 20;
  return block | static_cast<std::uint32_t>(format) << 16 | std::uint32_t{rotate} << 17;
}

std::size_t CodecSpec::payload_bytes(std::size_t n) const {
  const Entry& e = entry(*this);
  if (has_block())
    return block_sections(n, block, e.radix).bytes;
  if (has_density())
    return topk_sections(n, density, values).bytes;
  return align16(n * element_bytes(e.element));
}

CodecSpec CodecSpec::resolve(std::size_t n) const {
  const CodecSpec raw;
  return payload_bytes(n) < raw.payload_bytes(n) ? *this : raw;
}

double CodecSpec::ratio() const {
  constexpr std::size_t kMany = std::size_t{1} << 30;
  return 4.0 * kMany / static_cast<double>(payload_bytes(kMany));
}

const std::vector<CodecSpec>& codec_defaults() {
  static const std::vector<CodecSpec> all = [] {
    std::vector<CodecSpec> found;
    for (const Entry& e : entries())
      found.push_back(e.defaults);
    return found;
  }();
  return all;
}

} // namespace thinwire
