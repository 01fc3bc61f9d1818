#include "bind/bind.hpp"
#include "io/ragged_summary.hpp"
#include "io/record_summary.hpp"

#include <pybind11/numpy.h>

#include <mutex>
#include <optional>
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

// Python's threads may share a summary.
class SharedRecordSummary {
public:
  SharedRecordSummary(std::size_t bytes, const std::vector<FieldTuple>& fields,
                      std::optional<std::size_t> label, std::size_t classes, std::size_t distinct)
      : summary_(layout_of(bytes, fields, label, classes, distinct)) {}

  void add(Address address, std::size_t rows, std::size_t stride) {
    const std::lock_guard lock(mutex_);
    summary_.add(static_cast<const std::byte*>(pointer(address)), rows, stride);
  }

  py::dict snapshot() {
    const RecordSummary copy = copied();
    py::list fields;
    for (const FieldSummary& field : copy.fields())
      fields.append(to_dict(field));
    py::dict made;
    made["records"] = copy.records();
    made["fields"] = fields;
    made["classes"] = to_tuple(copy.classes());
    made["distinct"] = to_tuple(copy.distinct());
    return made;
  }

private:
  RecordSummary copied() {
    const GilRelease release;
    const std::lock_guard lock(mutex_);
    return summary_;
  }

  std::mutex mutex_;
  RecordSummary summary_;
};

class SharedRaggedSummary {
public:
  SharedRaggedSummary(std::size_t names, std::string label, std::size_t classes,
                      std::size_t distinct)
      : summary_({distinct, names, std::move(label), classes}) {}

  void add(Address address, const py::array_t<std::int64_t, py::array::c_style>& offsets) {
    const std::span<const std::int64_t> given(offsets.data(),
                                              static_cast<std::size_t>(offsets.size()));
    const GilRelease release;
    const std::lock_guard lock(mutex_);
    summary_.add(static_cast<const std::byte*>(pointer(address)), given);
  }

  py::dict snapshot() {
    RaggedSummary copy = copied();
    py::dict made, members;
    made["records"] = copy.records();
    made["sizes"] = to_dict(copy.sizes());
    made["classes"] = to_tuple(copy.classes());
    made["distinct"] = to_tuple(copy.distinct());
    made["malformed"] = copy.malformed();
    if (auto& json = copy.json()) {
      for (auto& [name, field] : json->by_name())
        members[py::bytes(name)] = to_dict(field);
      made["members"] = members;
      made["other_members"] = json->other_members();
    }
    return made;
  }

private:
  RaggedSummary copied() {
    const GilRelease release;
    const std::lock_guard lock(mutex_);
    return summary_;
  }

  std::mutex mutex_;
  RaggedSummary summary_;
};

} // namespace

void register_quality(py::module_& m) {
  py::class_<SharedRecordSummary>(m, "RecordSummary", "Counts over records of one layout.")
      .def(py::init<std::size_t, const std::vector<FieldTuple>&, std::optional<std::size_t>,
                    std::size_t, std::size_t>(),
           py::arg("bytes"), py::arg("fields"), py::arg("label"), py::arg("classes"),
           py::arg("distinct"))
      .def("add", &SharedRecordSummary::add, py::arg("address"), py::arg("rows"), py::arg("stride"),
           ReleaseGil(), "Takes in records that lie `stride` bytes apart.")
      .def("snapshot", &SharedRecordSummary::snapshot, "What was counted so far.");
  py::class_<SharedRaggedSummary>(m, "RaggedSummary", "Counts over records that differ in size.")
      .def(py::init<std::size_t, std::string, std::size_t, std::size_t>(), py::arg("names"),
           py::arg("label"), py::arg("classes"), py::arg("distinct"))
      .def("add", &SharedRaggedSummary::add, py::arg("address"), py::arg("offsets"),
           "Takes in the records between the offsets.")
      .def("snapshot", &SharedRaggedSummary::snapshot, "What was counted so far.");
}

} // namespace thinwire::bind
