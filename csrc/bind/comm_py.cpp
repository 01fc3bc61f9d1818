#include "bind/collectives_py.hpp"

#include "core/env.hpp"
#include "ring/cuda_device.hpp"

#include <memory>
#include <optional>
#include <unistd.h>

namespace thinwire::bind {
namespace {

// An engine and its collectives: one rank of a group.
class Rank {
public:
  Rank(int rank, int ranks, double timeout, const NetworkOptions& network, bool cuda_ipc)
      : rank_(rank), ranks_(ranks), process_(::getpid()),
        engine_(new Engine({.rank = rank,
                            .ranks = ranks,
                            .timeout = timeout,
                            .network = network,
                            .window_bytes = cuda_ipc ? EngineOptions{}.window_bytes : 0})) {}
  // In the child of a fork there is no thread to join, and the locks are in no known state.
  ~Rank() {
    if (::getpid() != process_)
      static_cast<void>(engine_.release());
  }

  void join(std::uint64_t group, const std::vector<PeerAddress>& peers,
            const std::vector<std::string>& kinds, const std::vector<int>& neighbours,
            const std::vector<int>& sites) {
    std::vector<LinkKind> links;
    for (const std::string& kind : kinds)
      links.push_back(kind == "inproc" ? LinkKind::inproc
                      : kind == "shm"  ? LinkKind::shm
                                       : LinkKind::tcp);
    place_ = {rank_, {ranks_, sites}};
    collectives_.emplace(*engine_, place_);
    engine_->join(group, peers, links, neighbours);
  }

  Engine& engine() { return *engine_; }
  const Place& place() const { return place_; }
  Collectives& collectives() {
    if (!collectives_)
      throw InvalidArgument("this rank has not joined its group");
    return *collectives_;
  }

private:
  int rank_, ranks_;
  pid_t process_;
  Place place_ = {};
  std::unique_ptr<Engine> engine_;
  std::optional<Collectives> collectives_;
};

NetworkOptions make_network(const std::vector<std::string>& interfaces, std::pair<int, int> ports,
                            int sockets, const std::string& congestion, std::uint64_t pacing,
                            const py::bytes& secret, bool tls, const std::string& certificate,
                            const std::string& key, const std::string& authority, double timeout) {
  return {.interfaces = interfaces,
          .first_port = ports.first,
          .last_port = ports.second,
          .sockets = sockets,
          .congestion = congestion,
          .pacing = pacing,
          .secret = secret,
          .tls = {.enabled = tls, .certificate = certificate, .key = key, .authority = authority},
          .timeout = timeout};
}

py::dict link_stats(const PeerStats& stats) {
  const LinkStats& link = stats.link;
  const WindowStats& window = stats.window;
  py::dict found;
  found["peer"] = stats.peer;
  found["kind"] = link.kind;
  found["detail"] = link.detail;
  found["sent_bytes"] = link.sent_bytes;
  found["received_bytes"] = link.received_bytes;
  found["sent_frames"] = link.sent_frames;
  found["received_frames"] = link.received_frames;
  found["retransmits"] = link.retransmits;
  found["rtt_seconds"] = link.rtt_seconds;
  found["busy_seconds"] = link.busy_seconds;
  found["cuda_ipc"] = window.state + (window.reason.empty() ? "" : ": ") + window.reason;
  found["cuda_ipc_bytes"] = window.bytes;
  return found;
}

py::dict engine_stats(Rank& rank) {
  EngineStats stats;
  {
    const GilRelease release;
    stats = rank.engine().stats();
  }
  py::list links;
  for (const PeerStats& peer : stats.links)
    links.append(link_stats(peer));
  py::dict found;
  found["links"] = links;
  found["stage_seconds"] = stage_seconds(stats.costs);
  found["buffer_bytes"] = stats.buffer_bytes;
  found["operations"] = stats.operations;
  found["busy_seconds"] = stats.busy_seconds;
  found["waited_seconds"] = stats.waited_seconds;
  found["events"] = stats.events;
  return found;
}

void register_addresses(py::module_& m) {
  py::class_<PeerAddress>(m, "PeerAddress", "How a rank can be reached.")
      .def(py::init([](std::vector<std::string> hosts, std::uint16_t port, std::string local_name,
                       std::uint64_t token) {
             return PeerAddress{std::move(hosts), port, std::move(local_name), token};
           }),
           py::arg("hosts"), py::arg("port"), py::arg("local_name"), py::arg("token"))
      .def_readonly("hosts", &PeerAddress::hosts)
      .def_readonly("port", &PeerAddress::port)
      .def_readonly("local_name", &PeerAddress::local_name)
      .def_readonly("token", &PeerAddress::token);

  py::class_<NetworkOptions>(m, "NetworkOptions", "How links are made.")
      .def(py::init(&make_network), py::kw_only(), py::arg("interfaces"), py::arg("ports"),
           py::arg("sockets"), py::arg("congestion"), py::arg("pacing"), py::arg("secret"),
           py::arg("tls"), py::arg("certificate"), py::arg("key"), py::arg("authority"),
           py::arg("timeout"));
}

// One slice of a plan: (first, count, owner, round, layout, parameters, residuals, residuals,
// key_seed).
using SliceTuple = std::tuple<std::size_t, std::size_t, int, std::uint32_t, Layout,
                              std::vector<std::uint32_t>, Addresses, Addresses, std::uint64_t>;

std::vector<void*> pointers(const Addresses& addresses) {
  std::vector<void*> found;
  if (addresses)
    for (Address address : *addresses)
      found.push_back(pointer(address));
  return found;
}

// Throws InvalidArgument for a slice whose frames would be refused by the links of other ranks.
void check_payload_fits(const PlannedSlice& slice) {
  const std::size_t exact = slice.role.up_exact ? slice.count * sizeof(float) : 0;
  const std::size_t bytes = std::max(slice.layout.payload_bytes(), exact);
  if (bytes > kMaxPayload)
    throw InvalidArgument("slice " + std::to_string(slice.id) + " of " +
                          std::to_string(slice.count) + " values would take a frame of " +
                          std::to_string(bytes) + " bytes; at most " + std::to_string(kMaxPayload) +
                          " travel in one: cut it");
}

std::shared_ptr<TreePlan> make_plan(const Rank& rank, const std::vector<SliceTuple>& slices,
                                    std::uint32_t plan_id, int dtype, int residual_dtype,
                                    const std::string& algorithm) {
  auto plan = std::make_shared<TreePlan>();
  plan->dtype = dtype_of(dtype);
  plan->residual_dtype = dtype_of(residual_dtype);
  plan->check_weights = plan->flag_nonfinite = true;
  plan->plan_id = plan_id;
  const Place& place = rank.place();
  for (const auto& [first, count, owner, round, layout, parameters, source, target, seed] :
       slices) {
    const Slice slice{first, count, owner, round};
    const auto index = plan->slices.size();
    plan->slices.push_back(
        {.id = static_cast<std::uint32_t>(index),
         .first_in = first,
         .first_out = first,
         .count = count,
         .owner = owner,
         .round = round,
         .role = role_of(algorithm_of(algorithm), place.topology, slice, index, place.rank),
         .layout = layout,
         .parameters = parameters,
         .residuals = {pointers(source), pointers(target)},
         .key_seed = seed});
    check_payload_fits(plan->slices.back());
  }
  return plan;
}

// A method that starts an operation: call, count, and how.
template <class How>
using Start = Collectives::Work (Collectives::*)(const Call&, std::size_t, const How&);
template <class How> auto starts(Start<How> start) {
  return [start](Rank& rank, const Call& call, std::size_t count, const How& how) {
    return (rank.collectives().*start)(call, count, how);
  };
}

OnDevice
make_on_device(std::shared_ptr<Device> device, Address ready,
               const std::vector<std::tuple<std::uint32_t, std::size_t, std::size_t>>& watched) {
  OnDevice made{.device = std::move(device), .ready = pointer(ready)};
  for (const auto& [parameter, first, count] : watched)
    made.watched.push_back({parameter, first, count});
  return made;
}

void register_device(py::module_& m) {
  py::class_<Device, std::shared_ptr<Device>>(
      m, "Device", "A CUDA device as a rank uses it: a stream of its own.")
      .def(py::init(&cuda_device), py::arg("index"), ReleaseGil())
      .def_property_readonly(
          "stream", [](const Device& device) { return reinterpret_cast<Address>(device.stream()); },
          "The address of the stream.");
  py::class_<OnDevice>(m, "OnDevice",
                       "What an operation is told whose memory is a device's: the event after "
                       "which its values may be read, or 0, and (number, first value, values) of "
                       "the parameters that keep their residual if they are all zero.")
      .def(py::init(&make_on_device), py::arg("device"), py::arg("ready"), py::arg("watched"));
}

void register_rank(py::module_& m) {
  py::class_<Rank>(m, "Rank", "One rank of a group, with its progress thread.")
      .def(py::init<int, int, double, const NetworkOptions&, bool>(), py::arg("rank"),
           py::arg("ranks"), py::arg("timeout"), py::arg("network"), py::arg("cuda_ipc"),
           ReleaseGil())
      .def_property_readonly("address", [](Rank& r) { return r.engine().address(); })
      .def("join", &Rank::join, py::arg("group"), py::arg("peers"), py::arg("kinds"),
           py::arg("neighbours"), py::arg("sites"), ReleaseGil(),
           "Starts the thread and opens links to the neighbours, without waiting.")
      .def(
          "wait_connected",
          [](Rank& r, double limit) { return r.engine().wait_connected(to_duration(limit)); },
          py::arg("limit"), ReleaseGil(), "Waits for the links to the neighbours, in seconds.")
      .def("unconnected", [](Rank& r) { return r.engine().unconnected(); })
      .def(
          "abort", [](Rank& r, const std::string& reason) { r.engine().abort(reason); },
          py::arg("reason"), ReleaseGil())
      .def(
          "close", [](Rank& r) { r.engine().close(); }, ReleaseGil())
      .def("stats", &engine_stats)
      .def("make_plan", &make_plan, py::arg("slices"), py::arg("plan_id"), py::arg("dtype"),
           py::arg("residual_dtype"), py::arg("algorithm"),
           "A plan of (first, count, owner, round, layout, parameters, residuals, residuals, key "
           "seed).")
      .def(
          "choose_algorithm",
          [](const Rank& r, std::size_t count, bool compressed) {
            return std::string(name(choose_algorithm(r.place().topology, count, compressed)));
          },
          py::arg("count"), py::arg("compressed"))
      .def(
          "run_plan",
          [](Rank& r, const Call& call, std::shared_ptr<TreePlan> plan, std::uint64_t step,
             double weight, int source, int target, std::vector<std::uint8_t> held,
             std::uint32_t sample, std::optional<OnDevice> where) {
            return r.collectives().run_plan(call, std::move(plan),
                                            {.in = call.in,
                                             .out = call.out,
                                             .weight = weight,
                                             .step = step,
                                             .source = source,
                                             .target = target,
                                             .held = std::move(held),
                                             .sample = sample,
                                             .where = std::move(where)});
          },
          py::arg("call"), py::arg("plan"), py::arg("step"), py::arg("weight"), py::arg("source"),
          py::arg("target"), py::arg("held"), py::arg("sample"), py::arg("where") = py::none(),
          ReleaseGil())
      .def("all_reduce", starts<Reduction>(&Collectives::all_reduce), py::arg("call"),
           py::arg("count"), py::arg("how"), ReleaseGil())
      .def("reduce_scatter", starts<Reduction>(&Collectives::reduce_scatter), py::arg("call"),
           py::arg("count"), py::arg("how"), ReleaseGil())
      .def("all_gather", starts<Movement>(&Collectives::all_gather), py::arg("call"),
           py::arg("count"), py::arg("how"), ReleaseGil())
      .def("all_to_all", starts<Movement>(&Collectives::all_to_all), py::arg("call"),
           py::arg("count"), py::arg("how"), ReleaseGil())
      .def(
          "broadcast",
          [](Rank& r, const Call& call, std::size_t count, const Movement& how, int root) {
            return r.collectives().broadcast(call, count, root, how);
          },
          py::arg("call"), py::arg("count"), py::arg("how"), py::arg("root"), ReleaseGil())
      .def(
          "barrier", [](Rank& r, const Call& call) { return r.collectives().barrier(call); },
          py::arg("call"), ReleaseGil());
}

py::dict environment() {
  const Env env = Env::read();
  py::dict found;
  found["interface"] = env.interface;
  found["ports"] = env.ports;
  found["sockets"] = env.sockets;
  found["secret"] = env.secret;
  found["site"] = env.site;
  found["store_passphrase"] = env.store_passphrase;
  found["store_key_file"] = env.store_key_file;
  return found;
}

} // namespace

void register_comm(py::module_& m) {
  register_addresses(m);
  register_collectives(m);
  py::class_<TreePlan, std::shared_ptr<TreePlan>>(
      m, "ReducePlan", "What a rank does with every slice of a bucket, in every step.");
  register_device(m);
  m.def("environment", &environment,
        "The THINWIRE_* variables that stand for arguments, as they are now.");
  register_rank(m);
}

} // namespace thinwire::bind
