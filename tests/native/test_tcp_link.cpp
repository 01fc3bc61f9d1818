// Links over sockets: whole frames for whoever sends them in pieces, an end for whoever sends
// something else.
#include "check.hpp"
#include "core/error.hpp"
#include "mesh_ranks.hpp"
#include "transport/link_slot.hpp"
#include "transport/tcp_link.hpp"

#include <algorithm>
#include <array>
#include <sys/socket.h>

namespace {

using namespace mesh;

std::array<Descriptor, 2> socket_pair() {
  int fds[2];
  ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
  return {Descriptor(fds[0]), Descriptor(fds[1])};
}

Blake3Key key(int number) {
  Blake3Key key{};
  key[0] = static_cast<std::byte>(number);
  return key;
}

Channel channel(Descriptor fd, std::optional<SessionKeys> keys = {}) {
  auto stream = plain_stream(fd.get());
  return {std::move(fd), std::move(stream), keys};
}

// A link, and the bare other end of its socket.
struct Bench {
  explicit Bench(std::optional<SessionKeys> keys = {}) {
    auto [mine, theirs] = socket_pair();
    std::vector<Channel> channels;
    channels.push_back(channel(std::move(mine), keys));
    other = std::move(theirs);
    link = std::make_unique<TcpLink>(4, inbox, pool, poller, std::move(channels));
  }

  void turn() {
    poller.wait(Clock::time_point{});
    link->progress();
  }
  void put(const std::vector<std::byte>& bytes, std::size_t piece = 1 << 20) {
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      const std::size_t n = std::min(piece, bytes.size() - at);
      for (std::size_t done = 0; done < n;) {
        const ssize_t sent =
            ::send(other.get(), bytes.data() + at + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        done += sent > 0 ? static_cast<std::size_t>(sent) : 0;
        turn();
        if (!inbox.losses.empty())
          return;
      }
    }
  }
  std::vector<std::byte> get() {
    std::vector<std::byte> all, some(1 << 16);
    for (ssize_t n; turn(), (n = ::recv(other.get(), some.data(), some.size(), MSG_DONTWAIT)) > 0;)
      all.insert(all.end(), some.begin(), some.begin() + n);
    return all;
  }
  std::string loss() const {
    const auto found = inbox.losses.find(4);
    return found == inbox.losses.end() ? "" : found->second.front();
  }

  Poller poller;
  BlockPool pool;
  Inbox inbox;
  Descriptor other;
  std::unique_ptr<TcpLink> link;
};

std::vector<std::byte> wire(const Outgoing& out, TagSequence* tags = nullptr) {
  std::vector<std::byte> bytes(kHeaderBytes + out.header.payload_bytes);
  std::memcpy(bytes.data() + kHeaderBytes, out.payload, out.header.payload_bytes);
  FrameHeader header = out.header;
  seal_header(header, out.payload);
  std::memcpy(bytes.data(), &header, kHeaderBytes);
  if (tags) {
    const Tag tag = tags->next(header, out.payload);
    bytes.insert(bytes.end(), tag.begin(), tag.end());
  }
  return bytes;
}

TEST(frames_in_pieces_arrive_whole) {
  const auto sent = payloads(40, 100000);
  std::vector<std::byte> bytes;
  for (std::uint32_t i = 0; i < sent.size(); ++i) {
    const auto one = wire(frame(i, sent[i]));
    bytes.insert(bytes.end(), one.begin(), one.end());
  }
  for (std::size_t piece : {997, 4096, 70000, 1 << 20}) {
    check::context = "pieces of " + std::to_string(piece);
    Bench bench;
    bench.put(bytes, piece);
    bench.turn();
    CHECK(bench.inbox.count == sent.size() && bench.loss().empty());
    for (std::uint32_t i = 0; i < sent.size(); ++i)
      CHECK(bench.inbox.frames[4][i] == sent[i]);
    CHECK(bench.link->stats().received_bytes == bytes.size());
  }
}

TEST(a_payload_of_one_byte_at_a_time) {
  const std::vector<std::byte> payload(5000, std::byte{3});
  Bench bench;
  bench.put(wire(frame(0, payload)), 1);
  CHECK(bench.inbox.frames[4][0] == payload);
}

TEST(what_leaves_is_what_was_queued) {
  const auto sent = payloads(30, 300000);
  Bench bench;
  std::vector<std::byte> expected;
  for (std::uint32_t i = 0; i < sent.size(); ++i) {
    const auto one = wire(frame(i, sent[i]));
    expected.insert(expected.end(), one.begin(), one.end());
    bench.link->send(frame(i, sent[i]));
  }
  CHECK(bench.link->backlog() == expected.size());
  CHECK(bench.link->next_event() <= Clock::now());
  CHECK(bench.get() == expected);
  CHECK(bench.link->backlog() == 0 && bench.link->stats().sent_frames == sent.size());
  CHECK(bench.link->stats().busy_seconds > 0);
}

struct Owner final : BlockOwner {
  void reclaim(Block&) override { ++reclaimed; }
  int reclaimed = 0;
};

TEST(memory_is_let_go_when_it_has_left) {
  Owner owner;
  std::vector<std::byte> memory(500);
  Block block(owner, memory.data(), memory.size());
  Bench bench;
  Outgoing out = frame(0, memory);
  out.keep = BlockRef(block);
  bench.link->send(std::move(out));
  CHECK(owner.reclaimed == 0);
  bench.turn();
  CHECK(owner.reclaimed == 1);
}

TEST(memory_is_let_go_when_the_link_ends) {
  Owner owner;
  std::vector<std::byte> memory(kMaxPayload);
  Block block(owner, memory.data(), memory.size());
  Bench bench;
  Outgoing out = frame(0, memory);
  out.keep = BlockRef(block);
  bench.link->send(std::move(out));
  bench.turn(); // leaves in part
  CHECK(owner.reclaimed == 0);
  bench.other.reset();
  for (int i = 0; i < 4; ++i)
    bench.turn();
  CHECK(!bench.loss().empty() && owner.reclaimed == 1);
}

// The peer is not to blame, and the link does not go on as if nothing had been.
TEST(want_of_memory_goes_through) {
  struct Poor final : FrameSink {
    std::byte* place(int, const FrameHeader&) override { return nullptr; }
    void receive(Received) override { throw PoolExhausted("no memory"); }
    void lost(int, const std::string&) override { ++losses; }
    int losses = 0;
  } sink;
  auto [mine, theirs] = socket_pair();
  Poller poller;
  BlockPool pool;
  std::vector<Channel> channels;
  channels.push_back(channel(std::move(mine)));
  LinkSlot slot(4, sink);
  slot.connect(std::make_unique<TcpLink>(4, sink, pool, poller, std::move(channels)));
  const std::vector<std::byte> payload(100);
  const auto bytes = wire(frame(0, payload));
  CHECK(::send(theirs.get(), bytes.data(), bytes.size(), 0) == std::ssize(bytes));
  CHECK_THROWS(PoolExhausted, "no memory", slot.progress());
  CHECK(sink.losses == 0);
}

TEST(a_socket_without_work_does_not_keep_the_thread_busy) {
  auto [a0, b0] = socket_pair();
  auto [a1, b1] = socket_pair();
  Poller poller;
  BlockPool pool;
  Inbox inbox;
  std::vector<Channel> channels;
  channels.push_back(channel(std::move(a0)));
  channels.push_back(channel(std::move(a1)));
  TcpLink link(4, inbox, pool, poller, std::move(channels));
  const std::vector<std::byte> payload(kMaxPayload);
  link.send(frame(0, payload));
  CHECK(link.next_event() <= Clock::now());
  for (int i = 0; i < 4; ++i) {
    poller.wait(Clock::time_point{});
    link.progress();
  }
  CHECK(link.backlog() > 0); // one socket is full, the other has nothing to do
  CHECK(link.next_event() == Clock::time_point::max());
  link.send(frame(1, payload));
  CHECK(link.next_event() <= Clock::now());
}

TEST(detached_links_refer_to_no_memory_of_others) {
  Owner owner;
  std::vector<std::byte> memory(kMaxPayload, std::byte{9});
  Block block(owner, memory.data(), memory.size());
  Bench bench;
  for (std::uint32_t i = 0; i < 3; ++i) {
    Outgoing out = frame(i, memory);
    out.keep = BlockRef(block);
    bench.link->send(std::move(out));
  }
  bench.turn(); // the first one leaves in part
  std::vector<std::byte> expected = wire(frame(0, memory));
  bench.link->detach();
  CHECK(owner.reclaimed == 1);
  CHECK(bench.link->backlog() > 0 && bench.link->backlog() < expected.size());
  std::fill(memory.begin(), memory.end(), std::byte{0});
  const std::vector<std::byte> last(10, std::byte{7});
  bench.link->send(frame(9, last));
  const auto tail = wire(frame(9, last));
  expected.insert(expected.end(), tail.begin(), tail.end());
  CHECK(bench.get() == expected);
  CHECK(bench.link->backlog() == 0);
}

TEST(a_payload_under_way_moves_when_detached) {
  const std::vector<std::byte> payload(200000, std::byte{5});
  const auto bytes = wire(frame(1, payload)); // placed by the receiver
  Bench bench;
  bench.put({bytes.begin(), bytes.begin() + 100000});
  CHECK(bench.inbox.waiting.size() == 1);
  bench.link->detach();
  bench.inbox.waiting.clear();
  bench.put({bytes.begin() + 100000, bytes.end()});
  CHECK(bench.inbox.frames[4][1] == payload);
}

TEST(what_is_no_frame_ends_the_link) {
  Bench garbage;
  garbage.put(std::vector<std::byte>(200, std::byte{0x55}));
  CHECK(garbage.loss().find("magic") != std::string::npos);

  std::vector<std::byte> payload(300);
  Outgoing huge = frame(0, payload);
  FrameHeader header = huge.header;
  header.payload_bytes = std::uint64_t{1} << 60;
  std::vector<std::byte> bytes(kHeaderBytes);
  std::memcpy(bytes.data(), &header, kHeaderBytes);
  Bench announced;
  announced.put(bytes);
  CHECK(announced.loss().find("announces a payload") != std::string::npos);

  for (std::size_t size : {300, 20000}) {
    payload.assign(size, std::byte{1});
    bytes = wire(frame(0, payload));
    bytes[kHeaderBytes + size / 2] ^= std::byte{4};
    Bench flipped;
    flipped.put(bytes);
    CHECK(flipped.loss().find("checksum") != std::string::npos);
    CHECK(flipped.inbox.count == 0);
    CHECK(!flipped.link->progress());
    CHECK(flipped.inbox.losses[4].size() == 1);
  }
}

TEST(frames_read_before_the_end_count) {
  Bench bench;
  const std::vector<std::byte> payload(100, std::byte{1});
  const auto bytes = wire(frame(0, payload));
  [[maybe_unused]] ssize_t n = ::send(bench.other.get(), bytes.data(), bytes.size(), 0);
  bench.other.reset();
  bench.link->send(frame(1, payload));
  for (int i = 0; i < 4; ++i)
    bench.turn();
  CHECK(bench.inbox.count == 1);
  CHECK(bench.inbox.losses[4].size() == 1 && !bench.loss().empty());
}

TEST(tags_are_checked) {
  const SessionKeys keys{key(1), key(2)};
  const std::vector<std::byte> small(100, std::byte{1}), large(50000, std::byte{2});
  TagSequence tags(keys.receive);
  const auto first = wire(frame(0, small), &tags), second = wire(frame(1, large), &tags);

  Bench right(keys);
  right.put(first);
  right.put(second);
  CHECK(right.inbox.count == 2 && right.loss().empty());

  Bench repeated(keys);
  repeated.put(first);
  repeated.put(first);
  CHECK(repeated.inbox.count == 1 && repeated.loss().find("tag") != std::string::npos);

  Bench moved(keys);
  moved.put(second);
  CHECK(moved.inbox.count == 0 && moved.loss().find("tag") != std::string::npos);

  // The checksum is no secret: a forger can make it fit.
  std::vector<std::byte> changed = small;
  changed[50] ^= std::byte{1};
  auto forged = wire(frame(0, changed));
  forged.insert(forged.end(), first.end() - kTagBytes, first.end());
  Bench cheated(keys);
  cheated.put(forged);
  CHECK(cheated.inbox.count == 0 && cheated.loss().find("tag") != std::string::npos);

  TagSequence other(key(3));
  Bench strange(keys);
  strange.put(wire(frame(0, small), &other));
  CHECK(strange.inbox.count == 0 && strange.loss().find("tag") != std::string::npos);
}

TEST(frames_without_payload) {
  const SessionKeys keys{key(1), key(2)};
  for (const bool tagged : {false, true}) {
    Bench bench(tagged ? std::optional(keys) : std::nullopt);
    bench.link->send({});
    CHECK(bench.get().size() == kHeaderBytes + (tagged ? kTagBytes : 0));
    CHECK(bench.link->backlog() == 0);
  }
}

TEST(sockets_share_the_work) {
  auto [a0, b0] = socket_pair();
  auto [a1, b1] = socket_pair();
  Poller poller;
  BlockPool pool;
  Inbox inbox_a, inbox_b;
  std::vector<Channel> as, bs;
  as.push_back(channel(std::move(a0)));
  as.push_back(channel(std::move(a1)));
  bs.push_back(channel(std::move(b0)));
  bs.push_back(channel(std::move(b1)));
  TcpLink a(1, inbox_a, pool, poller, std::move(as)), b(0, inbox_b, pool, poller, std::move(bs));
  const auto sent = payloads(200, kMaxPayload);
  for (std::uint32_t i = 0; i < sent.size(); ++i)
    a.send(frame(i, sent[i]));
  while (inbox_b.count < sent.size() && inbox_b.losses.empty()) {
    poller.wait(Clock::time_point{});
    a.progress();
    b.progress();
  }
  for (std::uint32_t i = 0; i < sent.size(); ++i)
    CHECK(inbox_b.frames[0][i] == sent[i]);
}

} // namespace
