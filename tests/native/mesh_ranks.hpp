// Ranks with a Mesh each, in one thread, for tests.
#pragma once

#include "transport/mesh.hpp"

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace mesh {

using namespace thinwire;
using namespace std::chrono_literals;

// Keeps what comes. Every second payload is placed by the receiver.
struct Inbox final : FrameSink {
  std::byte* place(int, const FrameHeader& header) override {
    if (!places || header.slice % 2 == 0)
      return nullptr;
    placed = std::make_unique<std::byte[]>(header.payload_bytes + 1);
    waiting.push_back(std::move(placed));
    return waiting.back().get();
  }
  void receive(Received frame) override {
    frames[frame.peer][frame.header.slice] = {frame.payload,
                                              frame.payload + frame.header.payload_bytes};
    ++count;
  }
  void lost(int peer, const std::string& reason) override { losses[peer].push_back(reason); }

  bool places = true;
  std::unique_ptr<std::byte[]> placed;
  std::vector<std::unique_ptr<std::byte[]>> waiting;
  std::map<int, std::map<std::uint32_t, std::vector<std::byte>>> frames;
  std::map<int, std::vector<std::string>> losses;
  std::size_t count = 0;
};

struct Rank {
  Rank(int rank, int ranks, const NetworkOptions& options) : rank(rank) {
    poller.add(waker);
    mesh = std::make_unique<Mesh>(rank, ranks, options, poller, waker, pool, inbox);
  }

  void turn() {
    if (!mesh)
      return;
    poller.wait(Clock::time_point{});
    mesh->progress();
  }

  int rank;
  Poller poller;
  Waker waker;
  BlockPool pool;
  Inbox inbox;
  std::unique_ptr<Mesh> mesh;
};

inline NetworkOptions loopback() {
  NetworkOptions options;
  options.interfaces = {"lo"};
  options.timeout = 10;
  return options;
}

struct Group {
  Group(int ranks, const NetworkOptions& options, LinkKind kind = LinkKind::tcp)
      : Group(std::vector<NetworkOptions>(static_cast<std::size_t>(ranks), options), kind) {}

  explicit Group(const std::vector<NetworkOptions>& options, LinkKind kind = LinkKind::tcp,
                 std::uint64_t number = 7) {
    const int ranks = static_cast<int>(options.size());
    for (int i = 0; i < ranks; ++i)
      all.push_back(std::make_unique<Rank>(i, ranks, options[static_cast<std::size_t>(i)]));
    std::vector<PeerAddress> addresses;
    for (const auto& rank : all)
      addresses.push_back(rank->mesh->address());
    for (const auto& rank : all)
      rank->mesh->set_peers(number, addresses,
                            std::vector<LinkKind>(static_cast<std::size_t>(ranks), kind));
  }

  Rank& operator[](int rank) { return *all[static_cast<std::size_t>(rank)]; }
  void turn() {
    for (const auto& rank : all)
      rank->turn();
  }
  // Turns until `done`, for at most twenty seconds: machines may be busy. Whether it was.
  bool until(const std::function<bool()>& done) {
    const auto limit = Clock::now() + 20s;
    while (!done()) {
      if (Clock::now() > limit)
        return false;
      turn();
    }
    return true;
  }
  bool connect() {
    for (const auto& a : all)
      for (const auto& b : all)
        if (a != b)
          a->mesh->open(b->rank);
    return until([&] {
      for (const auto& a : all)
        for (const auto& b : all)
          if (a != b && !a->mesh->is_connected(b->rank))
            return false;
      return true;
    });
  }

  std::vector<std::unique_ptr<Rank>> all;
};

inline Outgoing frame(std::uint32_t slice, const std::vector<std::byte>& payload) {
  Outgoing out;
  out.header.slice = slice;
  out.header.payload_bytes = payload.size();
  static const std::byte nothing{};
  out.payload = payload.empty() ? &nothing : payload.data();
  return out;
}

// Payloads of all sizes, the small ones the most frequent.
inline std::vector<std::vector<std::byte>> payloads(std::size_t count, std::size_t most) {
  std::vector<std::vector<std::byte>> all;
  std::uint64_t state = 88172645463325252u;
  const auto next = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
  };
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t limit = i % 10 == 0 ? most : i % 3 == 0 ? 20000 : 200;
    std::vector<std::byte> payload(i == 0 ? 0 : i == 10 ? most : next() % limit);
    for (std::size_t j = 0; j < payload.size(); ++j)
      payload[j] = static_cast<std::byte>(i * 31 + j * 7 + (j >> 9));
    all.push_back(std::move(payload));
  }
  return all;
}

} // namespace mesh
