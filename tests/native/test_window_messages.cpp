// What a rank believes of what a peer says about windows, and what it makes of it.
#include "engine_ranks.hpp"
#include "host_device.hpp"
#include "mesh_ranks.hpp"

#include "ring/windows.hpp"

#include <cstring>
#include <thread>

namespace {

using namespace thinwire;
using namespace std::chrono_literals;

constexpr std::uint64_t kGroup = 77;
constexpr std::uint64_t kBytes = 4096;

FrameHeader about(WindowMessage kind, std::uint32_t window, std::uint64_t number = 0) {
  FrameHeader header;
  header.group = kGroup;
  header.sender = 1;
  header.codec = kWindowCodecId;
  header.phase = static_cast<std::uint8_t>(kind);
  header.slice = window;
  header.count = number;
  return header;
}

FrameHeader values() {
  FrameHeader header = about(WindowMessage::offer, 0);
  header.codec = kInWindowCodecId;
  header.payload_bytes = sizeof(WindowPlace);
  return header;
}

// An engine, and a peer that says what the test wants it to.
class Heard {
public:
  explicit Heard(LinkKind kind)
      : engine_({.rank = 0, .ranks = 2, .network = mesh::loopback()}),
        peer_(1, 2, mesh::loopback()) {
    std::vector<PeerAddress> addresses = {engine_.address(), peer_.mesh->address()};
    for (PeerAddress& address : addresses)
      address.hosts = {"127.0.0.1"};
    engine_.join(kGroup, addresses, {kind, kind}, {1});
    peer_.mesh->set_peers(kGroup, addresses, {kind, kind});
    peer_.mesh->open(0);
    turn_until([&] { return engine_.unconnected().empty(); });
  }

  void say(const FrameHeader& header, const void* payload = nullptr) {
    peer_.mesh->open(0).send({header, static_cast<const std::byte*>(payload), {}});
  }
  std::string failure() {
    turn_until([&] { return engine_.failure().has_value(); });
    return engine_.failure() ? engine_.failure()->reason : "";
  }

private:
  template <class Condition> void turn_until(Condition&& condition) {
    const auto limit = Clock::now() + 10s;
    while (!condition() && Clock::now() < limit) {
      peer_.turn();
      std::this_thread::sleep_for(1ms);
    }
  }

  Engine engine_;
  mesh::Rank peer_;
};

// One rank's side, with links that only note what is sent.
class Notes final : public Wires {
public:
  int rank() const override { return 0; }
  std::uint64_t group() const override { return kGroup; }
  void send(int, Outgoing frame) override {
    if (is_in_window(frame.header))
      windows_.note(1, frame);
    sent.push_back(std::move(frame));
  }
  std::size_t backlog(int) const override { return 0; }
  bool is_local(int) const override { return true; }
  BlockPool& pool() override { return pool_; }
  Windows& windows() override { return windows_; }

  WindowMessage last() const { return static_cast<WindowMessage>(sent.back().header.phase); }

private:
  BlockPool pool_;
  Windows windows_{*this, kBytes};

public:
  std::vector<Outgoing> sent;
};

Received from_peer(const WindowPlace& place, FrameHeader header = values()) {
  return {1, header, reinterpret_cast<const std::byte*>(&place), {}};
}

// A window of a peer's that this rank has opened.
struct Theirs {
  Theirs() : handle(emulation::Shares::all().add(kBytes)) {
    wires.windows().use(device);
    wires.windows().hear(1, {WindowMessage::offer, 0, kBytes, handle});
    CHECK(wires.last() == WindowMessage::opened);
  }
  ~Theirs() {
    wires.windows().end();
    CHECK(emulation::Shares::all().end(handle));
  }

  std::string handle;
  std::shared_ptr<Device> device = std::make_shared<emulation::Device>(1);
  Notes wires;
};

} // namespace

TEST(a_peer_that_shares_no_memory_has_no_windows) {
  for (const FrameHeader& header : {about(WindowMessage::offer, 0, kBytes), values()}) {
    Heard heard(LinkKind::tcp);
    const WindowPlace place{.window = 0, .offset = 0, .payload_bytes = 16};
    heard.say(header, &place);
    CHECK(heard.failure().ends_with("only ranks that share memory have windows"));
  }
}

TEST(what_makes_no_sense_ends_the_group) {
  struct Said {
    FrameHeader header;
    const char* reason;
  };
  FrameHeader unknown = about(WindowMessage::closed, 0);
  ++unknown.phase;
  for (const Said& said :
       {Said{unknown, "not a message about a window of this release"},
        {about(WindowMessage::offer, 0, std::uint64_t{1} << 50), "offered a window that makes"},
        {about(WindowMessage::opened, 0), "a window that this rank does not have"},
        {about(WindowMessage::released, 3, 256), "a window that this rank does not have"},
        {values(), "in a window that this rank has not opened"}}) {
    check::context = said.reason;
    Heard heard(LinkKind::inproc);
    const WindowPlace place{.window = 0, .offset = 0, .payload_bytes = 16};
    heard.say(said.header, &place);
    const std::string failure = heard.failure();
    CHECK(failure.starts_with("rank 1 is lost: corrupt frame: "));
    CHECK(failure.find(said.reason) != std::string::npos);
  }
}

TEST(places_outside_of_a_window) {
  Theirs theirs;
  Windows& windows = theirs.wires.windows();
  const auto refuses = [&](const WindowPlace& place, const char* reason) {
    check::context = std::to_string(place.offset) + "+" + std::to_string(place.payload_bytes);
    CHECK_THROWS(CorruptFrame, reason, windows.hold(from_peer(place)));
  };
  refuses({.window = 1, .offset = 0, .payload_bytes = 16}, "has not opened");
  const char* outside = "outside of their window";
  const std::uint64_t huge = ~std::uint64_t{0};
  for (std::uint64_t offset :
       {std::uint64_t{1}, std::uint64_t{128}, kBytes, kBytes + 256, huge - 255})
    refuses({.window = 0, .offset = offset, .payload_bytes = 16}, outside);
  for (std::uint64_t bytes : {kBytes, kBytes - kHeaderBytes + 1, huge, huge - kHeaderBytes + 1})
    refuses({.window = 0, .offset = 0, .payload_bytes = bytes}, outside);
  refuses({.window = 0, .offset = kBytes - 256, .payload_bytes = 256 - kHeaderBytes + 1}, outside);
  refuses({.window = 0, .reserved = 1, .offset = 0, .payload_bytes = 16}, outside);
  const WindowPlace last{.window = 0, .offset = kBytes - 256, .payload_bytes = 256 - kHeaderBytes};
  const Received held = windows.hold(from_peer(last));
  CHECK(whole_header(held.header, held.payload).payload_bytes == last.payload_bytes);
  FrameHeader aborted = values(), longer = values();
  aborted.flags = kFlagAborted;
  longer.payload_bytes += 8;
  for (const FrameHeader& header : {aborted, longer})
    CHECK_THROWS(CorruptFrame, "does not say where", windows.hold(from_peer(last, header)));
}

TEST(an_offer_that_is_said_again_is_answered_once) {
  Theirs theirs;
  Windows& windows = theirs.wires.windows();
  const std::size_t said = theirs.wires.sent.size();
  windows.hear(1, {WindowMessage::offer, 0, kBytes, theirs.handle});
  CHECK(theirs.wires.sent.size() == said);
  for (const AboutWindow& other :
       {AboutWindow{WindowMessage::offer, 0, kBytes - 256, theirs.handle},
        {WindowMessage::offer, 0, kBytes, "another"}})
    CHECK_THROWS(CorruptFrame, "two windows as one", windows.hear(1, other));
}

// A rank's other device need not have a way to the peer's.
TEST(a_device_that_cannot_open_a_window_is_brought_what_lies_there) {
  Theirs theirs;
  Windows& windows = theirs.wires.windows();
  const std::size_t said = theirs.wires.sent.size();
  const auto able = std::make_shared<emulation::Device>(2);
  const auto unable = std::make_shared<emulation::Device>(3);
  unable->set_shares(true, false);
  const WindowPlace place{.window = 0, .offset = 512, .payload_bytes = 1000};
  std::byte* memory = emulation::Shares::all().open(theirs.handle, kBytes, 0);
  for (std::size_t i = 0; i < 1000; ++i)
    memory[512 + kHeaderBytes + i] = static_cast<std::byte>(i % 251);
  for (const auto& device : {able, unable, unable}) {
    windows.use(device);
    const Received brought = windows.bring(windows.hold(from_peer(place)), device);
    CHECK(brought.peer == 1);
    CHECK(is_in_window(brought.header) == (device == able));
    if (device == able)
      continue;
    CHECK(brought.header.codec == kPlanCodecId && brought.header.payload_bytes == 1000);
    CHECK(std::memcmp(brought.payload, memory + 512 + kHeaderBytes, 1000) == 0);
  }
  windows.progress();
  CHECK(theirs.wires.sent.size() == said + 3); // nothing but what was read
  CHECK(theirs.wires.last() == WindowMessage::released);
  windows.left(1);
}

TEST(what_was_read_is_released_and_the_window_closed_behind_the_last) {
  Theirs theirs;
  Windows& windows = theirs.wires.windows();
  const WindowPlace place{.window = 0, .offset = 512, .payload_bytes = 16};
  Received held = windows.hold(from_peer(place));
  Received again = held;
  windows.left(1);
  held = {};
  windows.progress();
  CHECK(theirs.wires.last() == WindowMessage::opened);
  static_cast<void>(windows.frame_of(again, theirs.device));
  again = {};
  windows.progress();
  CHECK(theirs.wires.last() == WindowMessage::closed);
  const FrameHeader& released = theirs.wires.sent[theirs.wires.sent.size() - 2].header;
  CHECK(released.phase == static_cast<std::uint8_t>(WindowMessage::released));
  CHECK(released.count == place.offset);
  CHECK_THROWS(CorruptFrame, "has not opened", windows.hold(from_peer(place)));
}

TEST(a_window_is_offered_once_and_used_when_it_is_open) {
  const auto device = std::make_shared<emulation::Device>(1);
  Notes wires;
  Windows& windows = wires.windows();
  const auto in_use = std::make_shared<std::size_t>(0);
  const std::vector<int> peers = {1};
  for (int call : {0, 1}) {
    static_cast<void>(call);
    CHECK(!windows.take(device, peers, 100, in_use));
    CHECK(wires.sent.size() == 1 && wires.last() == WindowMessage::offer);
  }
  CHECK_THROWS(CorruptFrame, "was not offered", windows.hear(2, {WindowMessage::opened, 0}));
  windows.hear(1, {WindowMessage::opened, 0});
  CHECK_THROWS(CorruptFrame, "was not offered", windows.hear(1, {WindowMessage::opened, 0}));
  CHECK(!windows.take(device, peers, kBytes, in_use)); // more than there is
  std::vector<std::size_t> offsets;
  for (int frame = 0; frame < 4; ++frame) {
    BlockRef place = windows.take(device, peers, 1000, in_use);
    CHECK(bool(place) == (frame < 3));
    if (!place)
      break;
    const Outgoing made = windows.frame(*device, values(), std::move(place));
    WindowPlace at;
    std::memcpy(&at, made.payload, sizeof at);
    offsets.push_back(at.offset);
    wires.send(1, made);
  }
  wires.sent.clear(); // they have left
  CHECK(*in_use == 3 && !windows.is_roomy(*device));
  CHECK_THROWS(CorruptFrame, "was not sent", windows.hear(1, {WindowMessage::released, 0, 256}));
  CHECK_THROWS(CorruptFrame, "was not sent",
               windows.hear(2, {WindowMessage::released, 0, offsets[1]}));
  windows.hear(1, {WindowMessage::released, 0, offsets[1]});
  CHECK_THROWS(CorruptFrame, "was not sent",
               windows.hear(1, {WindowMessage::released, 0, offsets[1]}));
  CHECK(*in_use == 2 && !windows.is_roomy(*device));
  windows.hear(1, {WindowMessage::released, 0, offsets[0]});
  CHECK(*in_use == 1 && windows.is_roomy(*device));
  CHECK(bool(windows.take(device, peers, 1000, in_use))); // and given back, not sent
  CHECK(*in_use == 1);
  CHECK(windows.may_be_read_by(1));
  windows.gone(1);
  CHECK(*in_use == 0 && !windows.may_be_read_by(1));
  windows.end();
}

TEST(nothing_is_shared_with_who_is_gone) {
  const std::size_t shares = emulation::Shares::all().count();
  const auto device = std::make_shared<emulation::Device>(1);
  Notes wires;
  Windows& windows = wires.windows();
  windows.gone(1);
  const std::vector<int> peers = {1};
  CHECK(!windows.take(device, peers, 100, std::make_shared<std::size_t>(0)));
  CHECK(wires.sent.empty() && !windows.may_be_read_by(1));
  windows.end();
  CHECK(emulation::Shares::all().count() == shares);
}

TEST(an_offer_that_was_thrown_away_is_said_again) {
  const std::size_t shares = emulation::Shares::all().count();
  const auto device = std::make_shared<emulation::Device>(1);
  Notes wires;
  Windows& windows = wires.windows();
  const std::vector<int> peers = {1, 2};
  CHECK(!windows.take(device, peers, 100, std::make_shared<std::size_t>(0)));
  windows.hear(2, {WindowMessage::opened, 0});
  wires.sent.clear();
  windows.offer_again();
  CHECK(wires.sent.size() == 1 && wires.last() == WindowMessage::offer);
  windows.hear(1, {WindowMessage::closed, 0});
  windows.offer_again();
  CHECK(wires.sent.size() == 1 && !windows.may_be_read_by(1));
  windows.hear(2, {WindowMessage::closed, 0});
  windows.end();
  CHECK(emulation::Shares::all().count() == shares);
}

TEST(memory_that_may_still_be_read_stays) {
  const std::size_t shares = emulation::Shares::all().count();
  const auto device = std::make_shared<emulation::Device>(1);
  Notes wires;
  const std::vector<int> peers = {1};
  CHECK(!wires.windows().take(device, peers, 100, std::make_shared<std::size_t>(0)));
  wires.windows().end(); // the peer has not answered
  CHECK(emulation::Shares::all().count() == shares + 1);
}
