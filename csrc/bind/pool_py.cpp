#include "bind/bind.hpp"
#include "bind/pool_block.hpp"

#include "pool/pinned_range.hpp"
#include "pool/pool_timing.hpp"

namespace thinwire::bind {
namespace {

std::byte* block(Address address) { return static_cast<std::byte*>(pointer(address)); }

Address allocate(HostPool& pool, std::size_t bytes, std::size_t alignment) {
  return reinterpret_cast<Address>(allocate_block(pool, bytes, alignment));
}

py::dict stats_of_classes(const std::vector<ClassStats>& classes) {
  py::dict all;
  for (const ClassStats& c : classes) {
    py::dict one;
    one["allocations"] = c.allocations;
    one["live"] = c.live;
    one["cached"] = c.cached;
    one["peak"] = c.peak;
    all[py::int_(c.size)] = one;
  }
  return all;
}

py::dict stats_of_tiers(const std::array<TierStats, kTiers>& tiers) {
  py::dict all;
  for (std::size_t i = 0; i < kTiers; ++i) {
    py::dict one;
    one["held"] = tiers[i].held;
    one["peak"] = tiers[i].peak;
    all[kTierNames[i]] = one;
  }
  return all;
}

py::dict stats(const HostPool& pool) {
  PoolStats s;
  {
    const GilRelease release;
    s = pool.stats();
  }
  py::dict all;
  all["limit"] = s.limit;
  all["limited_by"] = s.limited_by;
  all["held"] = s.held;
  all["peak_held"] = s.peak_held;
  all["live"] = s.live;
  all["peak_live"] = s.peak_live;
  all["allocations"] = s.allocations;
  all["misses"] = s.misses;
  all["local_frees"] = s.local_frees;
  all["remote_frees"] = s.remote_frees;
  all["requested"] = s.requested;
  all["given"] = s.given;
  all["latency_samples"] = s.latency_samples;
  all["latency_p50_ns"] = s.latency_p50_ns;
  all["latency_p99_ns"] = s.latency_p99_ns;
  all["deferred_frees"] = s.deferred_frees;
  all["deferred_waiting"] = s.deferred_waiting;
  all["deferred_waits"] = s.deferred_waits;
  all["huge_pages"] = s.huge_pages;
  all["huge_share"] = s.huge_share;
  all["huge_bytes_per_s"] = s.huge_bytes_per_s;
  all["plain_bytes_per_s"] = s.plain_bytes_per_s;
  all["prefault_s"] = s.prefault_s;
  all["register_s"] = s.register_s;
  all["tiers"] = stats_of_tiers(s.tiers);
  all["classes"] = stats_of_classes(s.classes);
  all["reasons"] = s.reasons;
  return all;
}

PoolOptions options(std::size_t limit, bool huge_pages, bool lock, bool register_with_cuda,
                    unsigned threads, double decay_s, bool hide_from_children) {
  return {limit, huge_pages, lock, register_with_cuda, hide_from_children, threads, decay_s};
}

void register_timings(py::module_& m) {
  m.def("time_pool_pairs", &time_pairs, py::arg("pool"), py::arg("bytes"), py::arg("pairs"),
        ReleaseGil(), "Seconds of one allocate and free by one thread.");
  m.def("time_pool_remote_pairs", &time_remote_pairs, py::arg("pool"), py::arg("bytes"),
        py::arg("pairs"), ReleaseGil(), "Seconds of one allocate by a thread and free by another.");
  m.def("time_touch", &time_touch, py::arg("bytes"), ReleaseGil(),
        "Seconds in which one thread touches every page of new memory.");
  m.def(
      "time_pool_reserve",
      [](std::size_t bytes, unsigned threads, bool huge_pages) {
        return time_reserve({.huge_pages = huge_pages, .threads = threads}, bytes);
      },
      py::arg("bytes"), py::arg("threads") = 0, py::arg("huge_pages") = true, ReleaseGil(),
      "Seconds in which a new pool reserves memory.");
}

} // namespace

void register_pool(py::module_& m) {
  py::module_::import("atexit").attr("register")(
      py::cpp_function(&HostPool::end_registering, ReleaseGil()));
  py::class_<Ticket, std::shared_ptr<Ticket>>(m, "Ticket", "A count that only rises.")
      .def(py::init())
      .def("advance", &Ticket::advance, py::arg("value"), "Raises it to a value.")
      .def("reached", &Ticket::reached, py::arg("value"));
  py::class_<PinnedRange>(m, "PinnedRange", "Memory of somebody else's, pinned where it lies.")
      .def(py::init([](Address address, std::size_t bytes, bool is_read_only) {
             return std::make_unique<PinnedRange>(block(address), bytes, is_read_only);
           }),
           py::arg("address"), py::arg("bytes"), py::arg("is_read_only"), ReleaseGil())
      .def_property_readonly("tier", [](const PinnedRange& r) { return name_of(r.tier()); })
      .def_property_readonly("reason", &PinnedRange::reason, "Why it is no higher tier, or ''.")
      .def("release", &PinnedRange::release, ReleaseGil(), "Undoes it.");
  py::class_<HostPool>(m, "HostPool", "Host memory that is reused.")
      .def(py::init([](std::size_t limit, bool huge_pages, bool lock, bool register_with_cuda,
                       unsigned threads, double decay_s, bool hide_from_children) {
             return std::make_unique<HostPool>(options(limit, huge_pages, lock, register_with_cuda,
                                                       threads, decay_s, hide_from_children));
           }),
           py::arg("limit") = 0, py::arg("huge_pages") = true, py::arg("lock") = false,
           py::arg("register_with_cuda") = true, py::arg("threads") = 0, py::arg("decay_s") = 10.0,
           py::arg("hide_from_children") = false)
      .def_static("shared", &HostPool::shared, py::return_value_policy::reference,
                  "The pool of the process; never destroyed.")
      .def("allocate", &allocate, py::arg("bytes"), py::arg("alignment") = HostPool::kAlignment,
           "The address of uninitialised memory.")
      .def(
          "free", [](HostPool& pool, Address address) { pool.free(block(address)); },
          py::arg("address"))
      .def(
          "free_after",
          [](HostPool& pool, Address address, std::shared_ptr<Ticket> ticket, std::uint64_t value) {
            pool.free_after(block(address), std::move(ticket), value);
          },
          py::arg("address"), py::arg("ticket"), py::arg("value"),
          "free, but the block is used again only when the ticket has reached the value.")
      .def(
          "free_after_streams",
          [](HostPool& pool, Address address, const std::vector<std::pair<int, Address>>& streams) {
            std::vector<DeviceStream> all;
            for (const auto& [device, stream] : streams)
              all.push_back({device, pointer(stream)});
            pool.free_after_streams(block(address), all);
          },
          py::arg("address"), py::arg("streams"),
          "free, but the block is used again only when what (device, stream) have to do now is "
          "done.")
      .def(
          "tier",
          [](const HostPool& pool, Address address) { return name_of(pool.tier(block(address))); },
          py::arg("address"))
      .def(
          "usable",
          [](const HostPool& pool, Address address) { return pool.usable(block(address)); },
          py::arg("address"), "Bytes of the block, at least those asked for.")
      .def("reserve", &HostPool::reserve, py::arg("bytes"), ReleaseGil(),
           "Takes memory from the system now, touched by several threads.")
      .def("trim", &HostPool::trim, py::arg("keep") = 0, ReleaseGil(),
           "Gives unused memory back; returns how many bytes went.")
      .def_property_readonly("has_streams", &HostPool::has_streams,
                             "Whether there is a GPU, whose streams blocks may have to wait for.")
      .def_property_readonly("held", &HostPool::held, "Bytes taken from the system.")
      .def("stats", &stats)
      .def("reasons", &HostPool::reasons, ReleaseGil(),
           "Why memory is of a lower tier than was asked for.");
  register_timings(m);
}

} // namespace thinwire::bind
