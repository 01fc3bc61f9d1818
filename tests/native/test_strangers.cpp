// Who connects to a rank without belonging to its group: turned away, cheaply, and said so.
#include "check.hpp"
#include "core/error.hpp"
#include "few_descriptors.hpp"
#include "mesh_ranks.hpp"

#include "transport/endpoint.hpp"
#include "transport/handshake.hpp"
#include "transport/sockets.hpp"

#include <sys/socket.h>

namespace {

using namespace mesh;

TEST(garbage_is_turned_away_at_once) {
  Group group(2, loopback());
  const auto to = Endpoint::of_host("127.0.0.1", group[0].mesh->address().port);
  const Descriptor stranger = start_connecting(to, {});
  [[maybe_unused]] const ssize_t n = ::send(stranger.get(), "GET / HTTP/1.1\r\n\r\n", 18, 0);
  CHECK(group.until([&] { return group[0].mesh->refused() == 1; }));
  const auto events = group[0].mesh->take_events();
  CHECK(events.size() == 1 && events[0].find("127.0.0.1:") != std::string::npos &&
        events[0].find("does not speak thinwire") != std::string::npos);
  char byte;
  CHECK(::recv(stranger.get(), &byte, 1, MSG_DONTWAIT) <= 0);
  CHECK(group.connect());
}

// What rank 0 hears when rank 1 comes with another wire version.
std::map<int, std::vector<std::string>> losses_by_version(const NetworkOptions& options) {
  Group group(2, options);
  group[0].mesh->open(1);
  const auto to = Endpoint::of_host("127.0.0.1", group[0].mesh->address().port);
  const Descriptor other = start_connecting(to, {});
  Hello hello;
  hello.wire_version = kFrameVersion + 1;
  hello.group = 7;
  hello.sender = 1;
  [[maybe_unused]] const ssize_t n = ::send(other.get(), &hello, sizeof hello, 0);
  CHECK(group.until([&] { return group[0].mesh->refused() == 1; }));
  Hello answer;
  CHECK(::recv(other.get(), &answer, sizeof answer, MSG_DONTWAIT) == sizeof answer);
  CHECK(answer.wire_version == kFrameVersion);
  return group[0].inbox.losses;
}

TEST(another_wire_version_is_told_unless_anybody_could_claim_it) {
  NetworkOptions options = loopback();
  const auto losses = losses_by_version(options);
  CHECK(losses.size() == 1);
  for (const auto& [peer, reasons] : losses)
    CHECK(peer == 1 && reasons[0].find("version 1 ") != std::string::npos &&
          reasons[0].find("version 2 ") != std::string::npos);
  options.secret = "s";
  CHECK(losses_by_version(options).empty());
}

TEST(a_link_is_asked_for_at_the_socket_of_its_kind) {
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::shm}) {
    Group group(2, loopback(), kind);
    const PeerAddress& address = group[0].mesh->address();
    const Descriptor stranger =
        start_connecting(kind == LinkKind::tcp ? Endpoint::of_unix(address.local_name)
                                               : Endpoint::of_host("127.0.0.1", address.port),
                         {});
    Hello hello;
    hello.group = 7;
    hello.sender = 1;
    hello.kind = kind;
    [[maybe_unused]] const ssize_t n = ::send(stranger.get(), &hello, sizeof hello, 0);
    CHECK(group.until([&] { return group[0].mesh->refused() == 1; }));
    const auto events = group[0].mesh->take_events();
    CHECK(events.size() == 1 && events[0].find("another kind of link") != std::string::npos);
    CHECK(group.connect());
  }
}

TEST(silent_strangers_are_few_and_short_lived) {
  NetworkOptions options = loopback();
  options.timeout = 0.5;
  Group group(2, options);
  const auto to = Endpoint::of_host("127.0.0.1", group[0].mesh->address().port);
  std::vector<Descriptor> strangers;
  for (int i = 0; i < 100; ++i)
    strangers.push_back(start_connecting(to, {}));
  for (int i = 0; i < 20; ++i)
    group.turn();
  CHECK(group[0].mesh->refused() == 36);             // the oldest made room for others
  CHECK(group[0].mesh->next_event() > Clock::now()); // it waits, and does not spin
  CHECK(group[0].poller.wait(Clock::time_point{}) == 0);
  CHECK(group.until([&] { return group[0].mesh->refused() == 100; }));
  CHECK(group[0].mesh->take_events().size() == 64);
  CHECK(group.connect());
}

TEST(a_listener_rests_while_descriptors_are_used_up) {
  Group group(2, loopback());
  const auto to = Endpoint::of_host("127.0.0.1", group[0].mesh->address().port);
  const Descriptor stranger = start_connecting(to, {});
  {
    const FewDescriptors none(3);
    for (int i = 0; i < 5; ++i)
      group.turn();
    CHECK(group[0].poller.wait(Clock::time_point{}) == 0);
    CHECK(group[0].mesh->next_event() <= Clock::now() + 100ms);
  }
  CHECK(group.connect());
}

TEST(connections_to_other_addresses_are_refused) {
  Group group(2, loopback());
  const auto to = Endpoint::of_host("127.0.0.2", group[0].mesh->address().port);
  const Descriptor stranger = start_connecting(to, {});
  char byte;
  CHECK(group.until([&] { return ::recv(stranger.get(), &byte, 1, MSG_DONTWAIT) == 0; }));
}

TEST(nobody_gets_in_when_all_have_joined) {
  Group group(2, loopback());
  CHECK(group.connect());
  group.turn();
  const auto to = Endpoint::of_host("127.0.0.1", group[0].mesh->address().port);
  Descriptor late;
  try {
    late = start_connecting(to, {});
    CHECK(group.until([&] { return pending_error(late.get()) != 0; }));
  } catch (const TransportError&) {
  }
  CHECK(group[0].mesh->refused() == 0);
}

} // namespace
