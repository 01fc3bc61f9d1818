#include "bind/bind.hpp"
#include "io/ragged_summary.hpp"
#include "io/record_summary.hpp"

#include <pybind11/numpy.h>

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace thinwire::bind {
namespace {

// Names as thinwire.data's FieldSummary has them.
py::dict to_dict(const FieldSummary& summary) {
  const Counters& counters = summary.counters();
  const Histogram histogram = summary.histogram();
  py::dict made;
  made["values"] = counters.values;
  made["missing"] = counters.missing;
  made["nan"] = counters.nan;
  made["positive_infinity"] = counters.positive_infinity;
  made["negative_infinity"] = counters.negative_infinity;
  made["zeros"] = counters.zeros;
  made["least"] = counters.least;
  made["greatest"] = counters.greatest;
  made["finite"] = counters.moments.count;
  made["mean"] = counters.moments.mean;
  made["squares"] = counters.moments.squares;
  made["bins"] =
      py::array_t<std::uint64_t>(static_cast<py::ssize_t>(histogram.size()), histogram.data());
  return made;
}

py::object to_dict_or_none(const FieldSummary* summary) {
  return summary != nullptr ? py::object(to_dict(*summary)) : py::none();
}

// Counts by key, and of the others.
py::object to_tuple(const std::optional<ClassCounts>& classes) {
  if (!classes)
    return py::none();
  py::dict counts;
  for (const ClassCounts::Entry& entry : classes->entries())
    counts[py::bytes(entry.key)] = entry.times;
  return py::make_tuple(counts, classes->others());
}

// Level, digests and how often each occurred.
py::object to_tuple(const std::optional<DistinctSample>& distinct) {
  if (!distinct)
    return py::none();
  const auto entries = distinct->entries();
  py::array_t<std::uint8_t> digests({entries.size(), sizeof(Xxh3Digest)});
  py::array_t<std::uint64_t> times(static_cast<py::ssize_t>(entries.size()));
  auto* digest = reinterpret_cast<Xxh3Digest*>(digests.mutable_data());
  std::uint64_t* time = times.mutable_data();
  for (const DistinctSample::Entry& entry : entries) {
    *digest++ = entry.digest;
    *time++ = entry.times;
  }
  return py::make_tuple(distinct->level(), digests, times);
}

py::dict to_dict(JsonField& field) {
  py::dict made;
  made["numbers"] = field.numbers;
  made["strings"] = field.strings;
  made["booleans"] = field.booleans;
  made["nulls"] = field.nulls;
  made["nested"] = field.nested;
  made["values"] = to_dict_or_none(field.values.summary());
  made["lengths"] = to_dict_or_none(field.lengths.summary());
  return made;
}

using FieldTuple = std::tuple<std::string, std::size_t, std::size_t, std::optional<double>>;

RecordLayout layout_of(std::size_t bytes, const std::vector<FieldTuple>& fields,
                       std::optional<std::size_t> label, std::size_t classes,
                       std::size_t distinct) {
  RecordLayout made{bytes, {}, label, classes, distinct};
  for (const auto& [type, offset, count, missing] : fields)
    made.fields.push_back(
        {type == "bytes" ? std::nullopt : std::optional(value_type(type)), offset, count, missing});
  return made;
}

py::dict to_dict(const RecordSummary& summary) {
  py::list fields;
  for (const FieldSummary& field : summary.fields())
    fields.append(to_dict(field));
  py::dict made;
  made["records"] = summary.records();
  made["fields"] = fields;
  made["classes"] = to_tuple(summary.classes());
  made["distinct"] = to_tuple(summary.distinct());
  return made;
}

py::dict to_dict(RaggedSummary summary) {
  py::dict made, members;
  made["records"] = summary.records();
  made["sizes"] = to_dict(summary.sizes());
  made["classes"] = to_tuple(summary.classes());
  made["distinct"] = to_tuple(summary.distinct());
  made["malformed"] = summary.malformed();
  if (auto& json = summary.json()) {
    for (auto& [name, field] : json->by_name())
      members[py::bytes(name)] = to_dict(field);
    made["members"] = members;
    made["other_members"] = json->other_members();
  }
  return made;
}

// A summary that Python's threads share.
template <class Summary> class Shared {
public:
  explicit Shared(Summary summary) : summary_(std::move(summary)) {}

  template <class... Records> void add(Address address, Records... records) {
    const GilRelease release;
    const std::lock_guard lock(mutex_);
    summary_.add(static_cast<const std::byte*>(pointer(address)), records...);
  }

  py::dict snapshot() { return to_dict(copied()); }

private:
  Summary copied() {
    const GilRelease release;
    const std::lock_guard lock(mutex_);
    return summary_;
  }

  std::mutex mutex_;
  Summary summary_;
};

using SharedRecords = Shared<RecordSummary>;
using SharedRagged = Shared<RaggedSummary>;

} // namespace

void register_quality(py::module_& m) {
  py::class_<SharedRecords>(m, "RecordSummary", "Counts over records of one layout.")
      .def(
          py::init([](std::size_t bytes, const std::vector<FieldTuple>& fields,
                      std::optional<std::size_t> label, std::size_t classes, std::size_t distinct) {
            return std::make_unique<SharedRecords>(
                RecordSummary(layout_of(bytes, fields, label, classes, distinct)));
          }),
          py::arg("bytes"), py::arg("fields"), py::arg("label"), py::arg("classes"),
          py::arg("distinct"))
      .def("add", &SharedRecords::add<std::size_t, std::size_t>, py::arg("address"),
           py::arg("rows"), py::arg("stride"), "Takes in records that lie `stride` bytes apart.")
      .def("snapshot", &SharedRecords::snapshot, "What was counted so far.");
  py::class_<SharedRagged>(m, "RaggedSummary", "Counts over records that differ in size.")
      .def(py::init(
               [](std::size_t names, std::string label, std::size_t classes, std::size_t distinct) {
                 return std::make_unique<SharedRagged>(
                     RaggedSummary({distinct, names, std::move(label), classes}));
               }),
           py::arg("names"), py::arg("label"), py::arg("classes"), py::arg("distinct"))
      .def(
          "add",
          [](SharedRagged& summary, Address address,
             const py::array_t<std::int64_t, py::array::c_style>& offsets) {
            summary.add(address,
                        std::span(offsets.data(), static_cast<std::size_t>(offsets.size())));
          },
          py::arg("address"), py::arg("offsets"), "Takes in the records between the offsets.")
      .def("snapshot", &SharedRagged::snapshot, "What was counted so far.");
}

} // namespace thinwire::bind
