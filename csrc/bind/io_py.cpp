#include "bind/bind.hpp"

#include "io/file_reader.hpp"
#include "io/fixed_records.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

constexpr double kLongestWait = 1e9; // seconds; more would not fit the clock

// Its threads end before Python does, however long it lives. Used by who has the GIL.
class Reader : public FileReader {
public:
  Reader(std::vector<std::string> paths, const FileReaderOptions& options)
      : FileReader(std::move(paths), options) {
    const std::lock_guard lock(mutex);
    open.insert(this);
  }
  ~Reader() {
    {
      const std::lock_guard lock(mutex);
      open.erase(this);
    }
    close(); // before the memory of abandoned reads goes
  }

  // Keeps memory that is written to until the ticket has ended.
  void abandon(std::uint64_t ticket, py::object memory) {
    abandoned_.emplace_back(ticket, std::move(memory));
  }
  void free_abandoned() {
    std::erase_if(abandoned_, [this](const auto& each) { return has_ended(each.first); });
  }

  static void close_all() {
    const std::lock_guard lock(mutex);
    for (Reader* reader : open)
      reader->close();
  }

private:
  static inline std::mutex mutex; // locked by who has the GIL: never while another thread forks
  static inline std::set<Reader*> open;

  std::vector<std::pair<std::uint64_t, py::object>> abandoned_;
};

// What one call reads. The memory that it goes to lives until all of it has been read, also where
// nobody waits: the exception of a signal can take this away at any moment.
class Reads {
public:
  Reads(py::object reader, py::object memory)
      : holder_(std::move(reader)), reader_(holder_.cast<Reader&>()), memory_(std::move(memory)) {
    reader_.free_abandoned();
  }
  ~Reads() {
    if (ticket_ != 0 && !has_ended())
      reader_.abandon(ticket_, std::move(memory_));
  }
  Reads(const Reads&) = delete;
  Reads& operator=(const Reads&) = delete;

  void begin(const Request& request) { ticket_ = reader_.submit(request); }
  bool wait(double timeout_s) {
    return reader_.wait(ticket_, to_duration(std::clamp(timeout_s, 0.0, kLongestWait)));
  }

private:
  bool has_ended() const {
    try {
      return reader_.has_ended(ticket_);
    } catch (const InvalidArgument&) {
      return true; // in the child of a fork, where nothing is under way
    }
  }

  py::object holder_;
  Reader& reader_;
  py::object memory_;
  std::uint64_t ticket_ = 0;
};

std::string engine_name(const Reader& reader) {
  const ReadEngine engine = reader.engine();
  return std::string(
      std::ranges::find(kEngines, engine, [](const auto& e) { return e.second; })->first);
}

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

std::unique_ptr<Reads> submit(py::object reader, std::size_t count, Address files, Address offsets,
                              Address sizes, Address targets, Address sums, Address faults,
                              py::object memory) {
  auto reads = std::make_unique<Reads>(std::move(reader), std::move(memory));
  const GilRelease release;
  reads->begin({.places = places_of(count, files, offsets, sizes),
                .targets = array_of<const std::uint64_t>(targets, count),
                .sums = array_of<const std::uint64_t>(sums, count),
                .faults = array_of<std::int32_t>(faults, count)});
  return reads;
}

// `faults` must be of the right dtype, or what pybind11 would make of it is written.
std::unique_ptr<Reads> submit_fixed(py::object reader, const Array<std::int64_t>& numbers,
                                    const Array<std::int64_t>& ends,
                                    const Array<std::int64_t>& bases, std::uint64_t record_bytes,
                                    const std::vector<std::pair<Address, std::size_t>>& slots,
                                    Array<std::int32_t>& faults, py::object memory) {
  if (faults.size() != numbers.size() || ends.size() != bases.size())
    throw InvalidArgument("an array has not as many values as it has to");
  std::vector<Slot> filled;
  for (const auto& [address, records] : slots)
    filled.push_back({address, records});
  const FixedRecords records{values(ends), values(bases), record_bytes};
  const std::span<const std::int64_t> asked = values(numbers);
  const std::span<std::int32_t> written{faults.mutable_data(), asked.size()};
  auto reads = std::make_unique<Reads>(std::move(reader), py::make_tuple(memory, faults));
  const GilRelease release;
  reads->begin(FixedRequest(records, asked, filled).request(written));
  return reads;
}

py::dict stats_of(Reader& reader) {
  reader.free_abandoned();
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
  py::class_<Reads>(m, "Reads", "What one call of a FileReader reads.")
      .def("wait", &Reads::wait, py::arg("timeout_s"), ReleaseGil());
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
      .def("submit", &submit, py::arg("count"), py::arg("files"), py::arg("offsets"),
           py::arg("sizes"), py::arg("targets"), py::arg("sums"), py::arg("faults"),
           py::arg("memory"))
      .def("submit_fixed", &submit_fixed, py::arg("numbers").noconvert(), py::arg("ends"),
           py::arg("bases"), py::arg("record_bytes"), py::arg("slots"),
           py::arg("faults").noconvert(), py::arg("memory"))
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
