// Meshes of ranks over loopback: frames arrive whole, losses are told.
#include "check.hpp"
#include "core/error.hpp"
#include "mesh_ranks.hpp"

#include "transport/endpoint.hpp"

#include <algorithm>
#include <thread>

namespace {

using namespace mesh;

bool same(const Inbox& inbox, int from, const std::vector<std::vector<std::byte>>& sent) {
  const auto found = inbox.frames.find(from);
  if (found == inbox.frames.end() || found->second.size() != sent.size())
    return false;
  for (std::size_t i = 0; i < sent.size(); ++i)
    if (found->second.at(static_cast<std::uint32_t>(i)) != sent[i])
      return false;
  return true;
}

void exchange(const NetworkOptions& options, LinkKind kind, std::size_t count = 1000) {
  Group group(2, options, kind);
  const auto sent = payloads(count, kMaxPayload);
  for (int rank : {0, 1})
    for (std::uint32_t i = 0; i < sent.size(); ++i)
      group[rank].mesh->open(1 - rank).send(frame(i, sent[i]));
  CHECK(
      group.until([&] { return group[0].inbox.count == count && group[1].inbox.count == count; }));
  for (int rank : {0, 1}) {
    CHECK(same(group[rank].inbox, 1 - rank, sent));
    CHECK(group[rank].inbox.losses.empty());
    CHECK(group[rank].mesh->is_connected(1 - rank));
    CHECK(group[rank].mesh->find(1 - rank)->backlog() == 0);
    const LinkStats stats = group[rank].mesh->find(1 - rank)->stats();
    CHECK(stats.sent_frames == count && stats.received_frames == count);
    CHECK(stats.sent_bytes == stats.received_bytes);
  }
}

TEST(frames_arrive_over_one_socket) { exchange(loopback(), LinkKind::tcp); }

TEST(frames_arrive_over_three_sockets) {
  NetworkOptions options = loopback();
  options.sockets = 3;
  exchange(options, LinkKind::tcp);
}

TEST(frames_arrive_with_a_secret) {
  NetworkOptions options = loopback();
  options.sockets = 2;
  options.secret = "open sesame";
  exchange(options, LinkKind::tcp, 300);
}

TEST(frames_arrive_through_shared_memory) { exchange(loopback(), LinkKind::shm, 300); }
TEST(frames_arrive_between_threads) { exchange(loopback(), LinkKind::inproc, 300); }

TEST(frames_arrive_inside_tls) {
  NetworkOptions options = loopback();
  options.sockets = 2;
  options.secret = "open sesame";
  options.tls.enabled = true;
  try {
    exchange(options, LinkKind::tcp, 300);
  } catch (const NotBuilt&) { // no OpenSSL here
  }
}

TEST(addresses_of_all_interfaces_end_with_loopback) {
  NetworkOptions options;
  Rank rank(0, 1, options);
  const auto& hosts = rank.mesh->address().hosts;
  const auto first_loopback = std::find(hosts.begin(), hosts.end(), "127.0.0.1");
  CHECK(first_loopback != hosts.end());
  for (auto at = first_loopback; at != hosts.end(); ++at)
    CHECK(Endpoint::of_host(*at, 0).is_loopback());
}

TEST(an_unknown_interface_is_named_with_those_that_exist) {
  NetworkOptions options;
  options.interfaces = {"no-such-net"};
  CHECK_THROWS(TransportError, "'no-such-net'", Rank(0, 1, options));
  CHECK_THROWS(TransportError, "lo", Rank(0, 1, options));
}

TEST(an_unknown_congestion_control_is_named) {
  NetworkOptions options = loopback();
  options.congestion = "no-such-control";
  CHECK_THROWS(TransportError, "'no-such-control'", Rank(0, 1, options));
  options.congestion = "reno";
  Group group(2, options);
  CHECK(group.connect());
  CHECK(group[0].mesh->find(1)->stats().detail.find("reno") != std::string::npos);
}

TEST(ports_come_from_the_range_until_it_is_used_up) {
  NetworkOptions options = loopback();
  const Rank any(0, 1, options);
  const int taken = any.mesh->address().port;
  options.first_port = options.last_port = taken;
  const std::string range = "from " + std::to_string(taken) + " to " + std::to_string(taken);
  CHECK_THROWS(TransportError, range, Rank(0, 1, options));
  options.last_port = std::min(taken + 20, 65535);
  const Rank next(0, 1, options);
  CHECK(next.mesh->address().port > taken && next.mesh->address().port <= options.last_port);
}

TEST(several_interfaces_and_sockets) {
  NetworkOptions options = loopback();
  options.interfaces = {"lo", "lo"};
  options.sockets = 4;
  exchange(options, LinkKind::tcp, 100);
}

TEST(ranks_connect_in_any_order) {
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::shm, LinkKind::inproc})
    for (const int first : {0, 1}) {
      Group group(2, loopback(), kind);
      group[first].mesh->open(1 - first);
      const bool is_enough = first == 1 || kind == LinkKind::inproc;
      if (is_enough) { // the other, which did not ask for the link, has it as well
        CHECK(group.until(
            [&] { return group[0].mesh->is_connected(1) && group[1].mesh->is_connected(0); }));
      } else {
        for (int i = 0; i < 50; ++i)
          group.turn();
        CHECK(!group[0].mesh->is_connected(1) && group[1].mesh->find(0) == nullptr);
      }
      CHECK(group.connect());
    }
}

TEST(who_has_gone_before_a_link_stands_is_missed_by_who_wants_it) {
  Group group(2, loopback(), LinkKind::inproc);
  group[0].mesh.reset();
  group.turn();
  CHECK(group[1].inbox.losses.empty()); // nobody wanted it
  group[1].mesh->open(0);
  CHECK(group.until([&] { return !group[1].inbox.losses.empty(); }));
  CHECK(group[1].inbox.losses.at(0).front() == "it closed the connection");
}

TEST(four_ranks_all_to_all) {
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::shm, LinkKind::inproc}) {
    Group group(4, loopback(), kind);
    CHECK(group.connect());
    const auto sent = payloads(20, 100000);
    for (int a = 0; a < 4; ++a)
      for (int b = 0; b < 4; ++b)
        for (std::uint32_t i = 0; a != b && i < sent.size(); ++i)
          group[a].mesh->find(b)->send(frame(i, sent[i]));
    CHECK(group.until([&] {
      return std::all_of(group.all.begin(), group.all.end(),
                         [](const auto& rank) { return rank->inbox.count == 60; });
    }));
    for (int a = 0; a < 4; ++a)
      for (int b = 0; b < 4; ++b)
        CHECK(a == b || same(group[a].inbox, b, sent));
  }
}

// A peer whose options differ: what the rank that connects is told.
std::string loss_with(const NetworkOptions& low, const NetworkOptions& high) {
  Group group({low, high});
  group[0].mesh->open(1);
  group[1].mesh->open(0);
  CHECK(group.until([&] { return !group[1].inbox.losses.empty(); }));
  CHECK(!group[0].mesh->is_connected(1) && !group[1].mesh->is_connected(0));
  CHECK(group[0].inbox.losses.empty());
  CHECK(group[0].mesh->refused() > 0 && !group[0].mesh->take_events().empty());
  CHECK(group[0].mesh->take_events().empty());
  return group[1].inbox.losses[0].front();
}

TEST(unlike_secrets_do_not_connect) {
  NetworkOptions none = loopback(), right = none, wrong = none;
  right.secret = "right";
  wrong.secret = "wrong";
  CHECK(loss_with(right, wrong).find("another secret") != std::string::npos);
  CHECK(loss_with(right, none).find("has a secret") != std::string::npos);
  CHECK(loss_with(none, right).find("has no secret") != std::string::npos);
}

TEST(nobody_there_is_told_after_the_timeout) {
  NetworkOptions options = loopback();
  options.timeout = 1; // a busy machine may take a part of it for one look
  Group group(2, options);
  group[0].mesh.reset();
  group[1].mesh->open(0);
  const auto begin = Clock::now();
  CHECK(group.until([&] { return !group[1].inbox.losses.empty(); }));
  CHECK(Clock::now() - begin >= 990ms);
  CHECK(group[1].inbox.losses[0].front().find("Connection refused") != std::string::npos);
  CHECK(group[1].inbox.losses[0].size() == 1);
}

TEST(a_lost_peer_is_told_once_after_what_it_sent) {
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::shm, LinkKind::inproc}) {
    Group group(2, loopback(), kind);
    CHECK(group.connect());
    const std::vector<std::byte> payload(1000, std::byte{1});
    for (std::uint32_t i = 0; i < 20; ++i)
      group[1].mesh->find(0)->send(frame(i, payload));
    group[1].turn();
    group[1].mesh.reset();
    CHECK(group.until([&] { return !group[0].inbox.losses.empty(); }));
    for (int i = 0; i < 10; ++i)
      group.turn();
    CHECK(group[0].inbox.count == 20);
    CHECK(group[0].inbox.losses[1] == std::vector<std::string>{"it closed the connection"});
    CHECK(group[0].mesh->next_event() > Clock::now());
    CHECK(group[0].poller.wait(Clock::time_point{}) == 0); // nothing keeps waking the engine
  }
}

TEST(meshes_end_in_the_middle_of_anything) {
  const auto sent = payloads(50, kMaxPayload);
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::shm, LinkKind::inproc})
    for (int turns = 0; turns < 12; ++turns) {
      Group group(3, loopback(), kind);
      for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b)
          for (std::uint32_t i = 0; a != b && i < sent.size(); ++i)
            group[a].mesh->open(b).send(frame(i, sent[i]));
      for (int i = 0; i < turns; ++i)
        group.turn();
      group[turns % 3].mesh.reset();
      for (int i = 0; i < 5; ++i)
        group.turn();
    }
}

// As in use: each rank in a thread of its own that sleeps when there is nothing to do.
void exchange_in_threads(LinkKind kind) {
  Group group(2, loopback(), kind);
  const auto sent = payloads(200, 200000);
  const auto work = [&](Rank& rank) {
    const auto limit = Clock::now() + 20s;
    for (std::uint32_t i = 0; i < sent.size(); ++i)
      rank.mesh->open(1 - rank.rank).send(frame(i, sent[i]));
    const auto is_done = [&] {
      return rank.inbox.count == sent.size() && rank.mesh->find(1 - rank.rank)->backlog() == 0;
    };
    while (!is_done() && Clock::now() < limit) {
      rank.poller.wait(Clock::time_point{});
      if (rank.mesh->progress())
        continue;
      if (rank.mesh->announce_sleep(true))
        rank.poller.wait(std::min(limit, rank.mesh->next_event()));
      rank.mesh->announce_sleep(false);
    }
    CHECK(is_done());
  };
  std::thread other([&] { work(group[1]); });
  work(group[0]);
  other.join();
  CHECK(same(group[0].inbox, 1, sent) && same(group[1].inbox, 0, sent));
}

TEST(threads_sleep_and_are_woken) {
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::shm, LinkKind::inproc})
    exchange_in_threads(kind);
}

} // namespace
