// Groups of ranks in one process, for tests: every rank an engine with its thread.
#pragma once

#include "check.hpp"

#include "ring/collectives.hpp"

#include <memory>
#include <string>
#include <vector>

namespace engines {

using namespace thinwire;
using namespace std::chrono_literals;

inline constexpr double kDeadline = 60;

struct Rank {
  Rank(int rank, const Topology& topology, double timeout, const NetworkOptions& network,
       std::size_t window_bytes)
      : engine({.rank = rank,
                .ranks = topology.ranks,
                .timeout = timeout,
                .network = network,
                .window_bytes = window_bytes}),
        collectives(engine, {rank, topology}) {}
  Engine engine;
  Collectives collectives;
};

enum class Links { all, ring };

// Ranks that are connected: all pairs, or neighbours in the ring.
struct Group {
  explicit Group(int size, LinkKind kind, double timeout = 30, const NetworkOptions& network = {},
                 Links links = Links::all, const std::vector<int>& sites = {},
                 std::size_t window_bytes = EngineOptions{}.window_bytes) {
    std::vector<PeerAddress> addresses;
    for (int rank = 0; rank < size; ++rank) {
      ranks.push_back(
          std::make_unique<Rank>(rank, Topology{size, sites}, timeout, network, window_bytes));
      addresses.push_back(ranks.back()->engine.address());
      addresses.back().hosts = {"127.0.0.1"};
    }
    for (int rank = 0; rank < size; ++rank) {
      std::vector<int> others;
      for (int peer = 0; peer < size; ++peer)
        if (peer != rank &&
            (links == Links::all || (peer + 1) % size == rank || (rank + 1) % size == peer))
          others.push_back(peer);
      at(rank).engine.join(77, addresses, std::vector<LinkKind>(addresses.size(), kind), others);
    }
    for (int rank = 0; rank < size; ++rank)
      CHECK(at(rank).engine.wait_connected(20s));
  }
  Rank& at(int rank) { return *ranks[static_cast<std::size_t>(rank)]; }
  int size() const { return static_cast<int>(ranks.size()); }

  std::vector<std::unique_ptr<Rank>> ranks;
};

inline Call call(std::uint64_t number, const void* in, void* out, double deadline = kDeadline) {
  return {{number, 0}, "operation " + std::to_string(number), in, out, nullptr, deadline};
}

inline std::string error_of(const Collectives::Work& work) {
  CHECK(work->wait_for(30s));
  return work->outcome().failure ? work->outcome().failure->reason : "";
}

} // namespace engines
