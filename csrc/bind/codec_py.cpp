#include "bind/bind.hpp"

#include "codec/spec.hpp"
#include "dispatch/frame_codec.hpp"

#include <cstdio>
#include <optional>
#include <tuple>
#include <variant>

namespace thinwire::bind {
namespace {

py::dict params(const CodecSpec& spec) {
  py::dict found;
  if (spec.has_block())
    found["block"] = spec.block;
  if (spec.has_rounding())
    found["rounding"] = name(spec.rounding);
  if (spec.has_format())
    found["format"] = name(spec.format);
  if (spec.has_rotation())
    found["rotate"] = spec.rotate;
  if (spec.has_density()) {
    found["density"] = spec.density / 1e6;
    found["values"] = name(spec.values);
  }
  return found;
}

// "int4:block=128,rounding=stochastic": the name, then the parameters that are not at their
// default.
std::string text(const CodecSpec& spec) {
  const CodecSpec defaults = CodecSpec::make(spec.name());
  std::string found;
  const auto add = [&](const std::string& parameter) {
    found += (found.empty() ? ":" : ",") + parameter;
  };
  if (spec.block != defaults.block)
    add("block=" + std::to_string(spec.block));
  if (spec.rounding != defaults.rounding)
    add(std::string("rounding=") + name(spec.rounding));
  if (spec.format != defaults.format)
    add(std::string("format=") + name(spec.format));
  if (spec.rotate)
    add("rotate=true");
  if (spec.density != defaults.density) {
    char density[32];
    std::snprintf(density, sizeof density, "%.6g", spec.density / 1e6);
    add(std::string("density=") + density);
  }
  if (spec.values != defaults.values)
    add(std::string("values=") + name(spec.values));
  return spec.name() + found;
}

py::list segments(const Layout& layout) {
  py::list found;
  for (const Segment& segment : layout.segments())
    found.append(py::make_tuple(segment.count, segment.codec));
  return found;
}

using SegmentTuple =
    std::variant<std::tuple<std::size_t, CodecSpec>, std::tuple<std::size_t, CodecSpec, Basis>>;

SegmentSpec segment_spec(const SegmentTuple& segment) {
  if (const auto* plain = std::get_if<0>(&segment))
    return {std::get<0>(*plain), std::get<1>(*plain)};
  const auto& [count, codec, basis] = std::get<1>(segment);
  return {count, codec, basis};
}

Layout make_layout(const std::vector<SegmentTuple>& segments,
                   std::optional<std::uint32_t> plan_id) {
  std::vector<SegmentSpec> specs;
  for (const SegmentTuple& segment : segments)
    specs.push_back(segment_spec(segment));
  if (plan_id)
    return Layout(specs, *plan_id);
  if (specs.size() != 1 || specs[0].basis.rank != 0)
    throw InvalidArgument("a layout of " + std::to_string(specs.size()) +
                          " segments, or with a basis, needs a plan_id");
  return Layout(specs[0].count, specs[0].codec);
}

} // namespace

void register_codecs(py::module_& m) {
  py::class_<CodecSpec>(m, "CodecSpec", "A codec with its parameters. Immutable.")
      .def(py::init(&CodecSpec::make), py::arg("name"), py::arg("block") = 0,
           py::arg("rounding") = "", py::arg("density") = 0.0, py::arg("values") = "",
           py::arg("format") = "", py::arg("rotate") = py::none())
      .def_property_readonly("name", [](const CodecSpec& s) { return s.name(); })
      .def_readonly("wire_id", &CodecSpec::wire_id)
      .def_property_readonly("param", &CodecSpec::param)
      .def_property_readonly("params", &params)
      .def_property_readonly("ratio", &CodecSpec::ratio)
      .def_property_readonly("error_bound", &CodecSpec::error_bound)
      .def_property_readonly(
          "error_norm",
          [](const CodecSpec& s) { return s.error_norm() == ErrorNorm::max ? "max" : "l2"; })
      .def("payload_bytes", &CodecSpec::payload_bytes, py::arg("count"))
      .def("resolve", &CodecSpec::resolve, py::arg("count"))
      .def(
          "__eq__", [](const CodecSpec& a, const CodecSpec& b) { return a == b; },
          py::is_operator())
      .def("__hash__", [](const CodecSpec& s) { return py::hash(py::str(text(s))); })
      .def("__str__", &text)
      .def("__repr__", [](const CodecSpec& s) { return "CodecSpec('" + text(s) + "')"; });
  m.def("codec_list", &codec_defaults, "Every codec with its default parameters.");

  py::class_<Layout>(m, "Layout", "What one frame holds: segments of (count, codec).")
      .def(py::init(&make_layout), py::arg("segments"), py::arg("plan_id") = py::none())
      .def_property_readonly("count", &Layout::count)
      .def_property_readonly("frame_bytes", &Layout::frame_bytes)
      .def_property_readonly("segments", &segments);
}

} // namespace thinwire::bind
