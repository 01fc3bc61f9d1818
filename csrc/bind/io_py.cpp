#include "bind/bind.hpp"

#include "io/file_reader.hpp"
#include "io/fixed_records.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace thinwire::bind {
namespace {

template <class Choice> using Names = std::array<std::pair<std::string_view, Choice>, 3>;

constexpr Names<ReadEngine> kEngines = {{{"auto", ReadEngine::automatic},
                                         {"io_uring", ReadEngine::io_uring},
                                         {"preadv", ReadEngine::preadv}}};
constexpr Names<DirectReads> kDirectReads = {{{"auto", DirectReads::automatic},
                                              {"never", DirectReads::never},
                                              {"always", DirectReads::always}}};

template <class Choice>
Choice choice_of(const Names<Choice>& names, const std::string& what, const std::string& text) {
  for (const auto& [name, choice] : names)
    if (name == text)
      return choice;
  std::string known;
  for (const auto& [name, choice] : names) {
    known += known.empty() ? "" : ", ";
    known += name;
  }
  throw InvalidArgument(what + " is '" + text + "'; it must be one of " + known);
}

// Its threads end before Python does, however long it lives.
class Reader : public FileReader {
public:
  Reader(std::vector<std::string> paths, const FileReaderOptions& options)
      : FileReader(std::move(paths), options) {
    const std::lock_guard lock(mutex);
    open.insert(this);
  }
  ~Reader() {
    const std::lock_guard lock(mutex);
    open.erase(this);
  }

  static void close_all() {
    const std::lock_guard lock(mutex);
    for (Reader* reader : open)
      reader->close();
  }

private:
  static inline std::mutex mutex; // locked by who has the GIL: never while another thread forks
  static inline std::set<Reader*> open;
};

std::string engine_name(const Reader& reader) {
  const ReadEngine engine = reader.engine();
  return std::string(
      std::ranges::find(kEngines, engine, [](const auto& e) { return e.second; })->first);
}

constexpr double kLongestWait = 1e9; // seconds; more would not fit the clock

template <class T> std::span<T> array_of(Address address, std::size_t count) {
  return {static_cast<T*>(pointer(address)), address != 0 ? count : 0};
}

Places places_of(std::size_t count, Address files, Address offsets, Address sizes) {
  return {array_of<const std::uint32_t>(files, count),
          array_of<const std::uint64_t>(offsets, count),
          array_of<const std::uint64_t>(sizes, count)};
}

template <class T> using Array = py::array_t<T, py::array::c_style>;

template <class T> std::span<const T> values(const Array<T>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

// `faults` is written until the ticket has ended: it must be of the right dtype, or what pybind11
// would make of it is written.
std::uint64_t submit_fixed(Reader& reader, const Array<std::int64_t>& numbers,
                           const Array<std::int64_t>& ends, const Array<std::int64_t>& bases,
                           std::uint64_t record_bytes,
                           const std::vector<std::pair<Address, std::size_t>>& slots,
                           Array<std::int32_t>& faults) {
  if (faults.size() != numbers.size() || ends.size() != bases.size())
    throw InvalidArgument("an array has not as many values as it has to");
  std::vector<Slot> filled;
  for (const auto& [address, records] : slots)
    filled.push_back({address, records});
  const FixedRecords records{values(ends), values(bases), record_bytes};
  const std::span<const std::int64_t> asked = values(numbers);
  const std::span<std::int32_t> written{faults.mutable_data(), asked.size()};
  const GilRelease release;
  return reader.submit(FixedRequest(records, asked, filled).request(written));
}

py::dict stats_of(const Reader& reader) {
  ReaderStats stats;
  {
    const GilRelease release;
    stats = reader.stats();
  }
  py::dict found;
  found["engine"] = engine_name(reader);
  found["bytes"] = stats.bytes;
  found["reads"] = stats.reads;
  found["merged"] = stats.merged;
  found["direct"] = stats.direct;
  found["waits"] = stats.waits;
  return found;
}

} // namespace

void register_io(py::module_& m) {
  py::module_::import("atexit").attr("register")(py::cpp_function(&Reader::close_all));
  py::class_<Reader>(m, "FileReader", "Reads records of many files in parallel.")
      .def(py::init([](std::vector<std::string> paths, unsigned threads, unsigned depth,
                       const std::string& engine, const std::string& direct) {
             return std::make_unique<Reader>(
                 std::move(paths),
                 FileReaderOptions{.threads = threads,
                                   .depth = depth,
                                   .engine = choice_of(kEngines, "engine", engine),
                                   .direct = choice_of(kDirectReads, "direct", direct)});
           }),
           py::arg("paths"), py::arg("threads") = 0, py::arg("depth") = 32,
           py::arg("engine") = "auto", py::arg("direct") = "auto")
      .def_property_readonly("engine", &engine_name)
      .def("sizes", &Reader::sizes, ReleaseGil())
      .def(
          "submit",
          [](Reader& reader, std::size_t count, Address files, Address offsets, Address sizes,
             Address targets, Address sums, Address faults) {
            return reader.submit({.places = places_of(count, files, offsets, sizes),
                                  .targets = array_of<const std::uint64_t>(targets, count),
                                  .sums = array_of<const std::uint64_t>(sums, count),
                                  .faults = array_of<std::int32_t>(faults, count)});
          },
          py::arg("count"), py::arg("files"), py::arg("offsets"), py::arg("sizes"),
          py::arg("targets"), py::arg("sums"), py::arg("faults"), ReleaseGil())
      .def("submit_fixed", &submit_fixed, py::arg("numbers").noconvert(), py::arg("ends"),
           py::arg("bases"), py::arg("record_bytes"), py::arg("slots"),
           py::arg("faults").noconvert())
      .def(
          "wait",
          [](Reader& reader, std::uint64_t ticket, double timeout_s) {
            return reader.wait(ticket, to_duration(std::clamp(timeout_s, 0.0, kLongestWait)));
          },
          py::arg("ticket"), py::arg("timeout_s"), ReleaseGil())
      .def(
          "ahead",
          [](Reader& reader, std::size_t count, Address files, Address offsets, Address sizes) {
            reader.ahead(places_of(count, files, offsets, sizes));
          },
          py::arg("count"), py::arg("files"), py::arg("offsets"), py::arg("sizes"), ReleaseGil())
      .def("stats", &stats_of)
      .def("close", &Reader::close, ReleaseGil());
}

} // namespace thinwire::bind
