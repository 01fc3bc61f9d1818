// TLS streams over a socket pair, both ends in one thread.
#include "check.hpp"
#include "core/error.hpp"
#include "transport/openssl.hpp"
#include "transport/poller.hpp"
#include "transport/tls.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using namespace thinwire;

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr int kMostTurns = 100'000;

std::vector<std::byte> pattern(std::size_t bytes, unsigned seed) {
  std::vector<std::byte> data(bytes);
  for (std::byte& byte : data)
    byte = static_cast<std::byte>((seed = seed * 1664525 + 1013904223) >> 24);
  return data;
}

// One end: what it still has to send, and what it has received.
struct End {
  Descriptor socket;
  std::unique_ptr<Stream> stream;
  std::vector<std::byte> to_send;
  std::size_t sent = 0, blocked_writes = 0;
  std::vector<std::byte> received;
  bool ended = false;

  // In three parts of odd sizes, as a header and a payload would be.
  bool write(std::size_t most) {
    const std::size_t bytes = std::min(most, to_send.size() - sent);
    if (bytes == 0)
      return false;
    std::byte* start = to_send.data() + sent;
    const std::size_t first = bytes / 7, second = bytes / 3;
    const iovec parts[] = {
        {start, first}, {start + first, second}, {start + first + second, bytes - first - second}};
    const Stream::Result result = stream->write(parts);
    sent += result.bytes;
    blocked_writes += result.state == Stream::State::would_block ? 1 : 0;
    return result.bytes > 0;
  }

  bool read() {
    std::byte one[1000], two[3000];
    const iovec parts[] = {{one, sizeof one}, {two, sizeof two}};
    const Stream::Result result = stream->read(parts);
    const std::size_t in_one = std::min(result.bytes, sizeof one);
    received.insert(received.end(), one, one + in_one);
    received.insert(received.end(), two, two + (result.bytes - in_one));
    ended = ended || result.state == Stream::State::ended;
    return result.bytes > 0;
  }
};

struct Pair {
  End client, server;

  Pair() {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets) != 0)
      std::abort();
    const int small = 4096; // so that writes block
    for (int fd : sockets)
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    client.socket = Descriptor(sockets[0]);
    server.socket = Descriptor(sockets[1]);
  }
  Pair(const TlsContext& of_client, const TlsContext& of_server) : Pair() {
    client.stream = tls_stream(client.socket.get(), of_client, false);
    server.stream = tls_stream(server.socket.get(), of_server, true);
  }

  bool done() const {
    return client.received.size() == server.to_send.size() &&
           server.received.size() == client.to_send.size();
  }

  void exchange(std::size_t most_a_write = kMiB) {
    for (int turn = 0; turn < kMostTurns && !done(); ++turn)
      for (End* end : {&client, &server}) {
        end->write(most_a_write);
        end->read();
      }
    CHECK(done());
  }

  // What the handshake failed with, on the side that was asked; the other side may fail first.
  std::string failure_of(End& asked) {
    client.to_send = server.to_send = {std::byte{1}};
    for (int turn = 0; turn < 20; ++turn)
      for (End* end : {&client, &server}) {
        try {
          end->write(1);
          end->read();
        } catch (const TransportError& error) {
          if (end == &asked)
            return error.what();
        }
      }
    return "nothing failed";
  }
};

TlsContext with_secret(const std::string& secret) { return {TlsOptions{true, "", "", ""}, secret}; }

bool contains(const std::string& text, const std::string& part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found)
    std::printf("'%s' lacks '%s'\n", text.c_str(), part.c_str());
  return found;
}

TEST(both_directions_at_once) {
  const TlsContext context = with_secret("hush");
  for (const std::size_t most : {kMiB, std::size_t{17000}, std::size_t{1000}}) {
    check::context = "writes of " + std::to_string(most);
    Pair pair(context, context);
    pair.client.to_send = pattern(kMiB, 1);
    pair.server.to_send = pattern(kMiB + 12345, 2);
    pair.exchange(most);
    CHECK(pair.server.received == pair.client.to_send);
    CHECK(pair.client.received == pair.server.to_send);
    CHECK(pair.client.blocked_writes > 0);
  }
}

TEST(the_wire_shows_nothing) {
  const TlsContext context = with_secret("hush");
  Pair pair(context, context);
  pair.client.to_send = pattern(64, 1);
  pair.exchange();
  pair.client.to_send = pattern(64 + 500, 1);
  pair.client.write(kMiB);
  std::byte raw[1000];
  const ssize_t bytes = recv(pair.server.socket.get(), raw, sizeof raw, 0);
  CHECK(bytes > 500);
  const auto plain = std::span(pair.client.to_send).subspan(64, 16);
  CHECK(std::search(raw, raw + bytes, plain.begin(), plain.end()) == raw + bytes);
}

TEST(a_new_key_after_so_many_bytes) {
  const TlsContext context(TlsOptions{true, "", "", ""}, "hush", 50'000);
  Pair pair(context, context);
  pair.client.to_send = pattern(kMiB, 3);
  pair.server.to_send = pattern(kMiB, 4);
  pair.exchange();
  CHECK(pair.server.received == pair.client.to_send);
  CHECK(pair.client.received == pair.server.to_send);
}

TEST(buffered_bytes_are_told) {
  const TlsContext context = with_secret("hush");
  Pair pair(context, context);
  pair.client.to_send = pattern(1, 5);
  pair.exchange();
  pair.client.to_send = pattern(3001, 5);
  pair.client.write(kMiB);
  CHECK(!pair.server.stream->has_buffered());
  std::byte few[1000];
  const iovec part{few, sizeof few};
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(pair.server.stream->read({&part, 1}).bytes == sizeof few);
    CHECK(pair.server.stream->has_buffered() == (turn < 2));
  }
  CHECK(pair.server.stream->read({&part, 1}).state == Stream::State::would_block);
  CHECK(!pair.server.stream->has_buffered());
}

TEST(a_client_waits_for_the_server_and_then_no_more) {
  const TlsContext context = with_secret("hush");
  Pair pair(context, context);
  pair.client.to_send = pattern(10, 6);
  CHECK(!pair.client.write(10));
  CHECK(pair.client.stream->write_wants_read());
  pair.server.read();
  pair.client.read(); // finishes the handshake
  CHECK(!pair.client.stream->write_wants_read());
  CHECK(pair.client.write(10));
}

TEST(a_write_that_finishes_the_handshake_may_have_read_ahead) {
  const TlsContext context = with_secret("hush");
  Pair pair(context, context);
  pair.client.to_send = pair.server.to_send = pattern(10, 6);
  pair.client.write(10);
  pair.server.read();
  CHECK(pair.client.write(10)); // the end of the handshake, and ten bytes
  CHECK(pair.server.write(10));
  CHECK(pair.server.stream->has_buffered());
  CHECK(pair.server.read());
  CHECK(!pair.server.stream->has_buffered());
}

TEST(goodbye) {
  const TlsContext context = with_secret("hush");
  Pair pair(context, context);
  pair.client.to_send = pattern(1000, 7);
  pair.server.to_send = pattern(1, 8);
  pair.exchange();
  pair.client.to_send = pattern(1100, 7);
  pair.client.write(100);
  pair.client.stream->shut_down();
  CHECK(pair.server.read());
  CHECK(!pair.server.ended && pair.server.stream->has_buffered());
  CHECK(!pair.server.read());
  CHECK(pair.server.ended);
}

TEST(a_peer_that_goes_without_goodbye) {
  const TlsContext context = with_secret("hush");
  Pair pair(context, context);
  pair.client.to_send = pattern(kMiB, 9);
  for (int turn = 0; turn < 20; ++turn) {
    pair.client.write(kMiB);
    pair.server.read();
  }
  CHECK(!pair.server.received.empty());
  pair.client.socket.reset();
  CHECK_THROWS(TransportError, "without a goodbye", while (pair.server.read()));
  CHECK_THROWS(TransportError, "without a goodbye", pair.server.read());
}

TEST(writing_to_a_peer_that_has_gone_raises_no_signal) {
  const TlsContext context = with_secret("hush");
  Pair pair(context, context);
  pair.client.to_send = pattern(1, 10);
  pair.exchange();
  pair.server.socket.reset();
  pair.client.to_send = pattern(kMiB, 10);
  CHECK_THROWS(TransportError, "Broken pipe", while (pair.client.write(kMiB)));
}

TEST(another_secret) {
  const TlsContext ours = with_secret("hush"), theirs = with_secret("hash");
  Pair seen_by_server(ours, theirs);
  const std::string reason = seen_by_server.failure_of(seen_by_server.server);
  CHECK(contains(reason, "binder does not verify"));
  CHECK(contains(reason, "same secret"));
  Pair seen_by_client(ours, theirs);
  CHECK(contains(seen_by_client.failure_of(seen_by_client.client), "the TLS handshake failed"));
}

TEST(a_peer_without_tls) {
  const TlsContext context = with_secret("hush");
  for (const bool tls_is_server : {false, true}) {
    check::context = tls_is_server ? "server" : "client";
    Pair pair(context, context);
    End& with = tls_is_server ? pair.server : pair.client;
    End& without = tls_is_server ? pair.client : pair.server;
    without.stream.reset();
    const char text[] = "TWIR, and more that is no TLS record at all";
    CHECK(send(without.socket.get(), text, sizeof text, MSG_NOSIGNAL) > 0);
    CHECK_THROWS(TransportError, "the TLS handshake failed: wrong version number", with.read());
  }
}

TEST(a_record_that_was_changed_on_its_way) {
  const TlsContext context = with_secret("hush");
  Pair pair(context, context);
  pair.client.to_send = pattern(1, 11);
  pair.exchange();
  pair.client.to_send = pattern(501, 11);
  pair.client.write(500);
  char raw[1000];
  const ssize_t bytes = recv(pair.server.socket.get(), raw, sizeof raw, 0);
  raw[bytes / 2] ^= 1;
  CHECK(send(pair.client.socket.get(), raw, static_cast<std::size_t>(bytes), 0) == bytes);
  CHECK_THROWS(TransportError, "bad record mac", pair.server.read());
}

TEST(nothing_to_prove_anything_with) {
  CHECK_THROWS(InvalidArgument, "pass secret=", with_secret(""));
  CHECK_THROWS(InvalidArgument, "three PEM files",
               TlsContext(TlsOptions{true, "a.pem", "", ""}, "hush"));
  CHECK_THROWS(InvalidArgument, "'/no/such.pem' cannot be used for TLS: No such file",
               TlsContext(TlsOptions{true, "/no/such.pem", "/no/key.pem", "/no/ca.pem"}, ""));
}

// Certificates by the openssl command, in a folder that goes with them.
class Certificates {
public:
  Certificates() {
    char name[] = "/tmp/thinwire_tls_XXXXXX";
    folder_ = mkdtemp(name);
    make_authority("authority");
    make_authority("stranger");
    sign("rank", "authority");
    sign("intruder", "stranger");
  }
  ~Certificates() { std::filesystem::remove_all(folder_); }
  Certificates(const Certificates&) = delete;
  Certificates& operator=(const Certificates&) = delete;

  std::string file(const std::string& name) const { return folder_ / name; }
  TlsOptions options(const std::string& name, const std::string& authority) const {
    return {true, file(name + ".pem"), file(name + ".key"), file(authority + ".pem")};
  }
  void openssl(const std::string& arguments) const {
    const std::string command =
        "cd " + folder_.string() + " && openssl " + arguments + " >/dev/null 2>&1";
    CHECK(std::system(command.c_str()) == 0);
  }

private:
  static constexpr char kNewKey[] = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes ";
  void make_authority(const std::string& name) const {
    openssl(kNewKey + ("-x509 -days 2 -subj /CN=" + name) + " -keyout " + name + ".key -out " +
            name + ".pem");
  }
  void sign(const std::string& name, const std::string& authority) const {
    openssl(kNewKey + ("-subj /CN=" + name) + " -keyout " + name + ".key -out " + name + ".csr");
    openssl("x509 -req -days 2 -CAcreateserial -in " + name + ".csr -CA " + authority +
            ".pem -CAkey " + authority + ".key -out " + name + ".pem");
  }
  std::filesystem::path folder_;
};

const Certificates* certificates() {
  static const bool possible = std::system("openssl version >/dev/null 2>&1") == 0;
  static const std::optional<Certificates> made =
      possible ? std::optional<Certificates>(std::in_place) : std::nullopt;
  if (!made)
    std::puts("skipped: there is no openssl command");
  return made ? &*made : nullptr;
}

TEST(certificates_of_one_authority) {
  if (const Certificates* files = certificates()) {
    const TlsContext context(files->options("rank", "authority"), "");
    Pair pair(context, context);
    pair.client.to_send = pattern(kMiB, 12);
    pair.server.to_send = pattern(kMiB, 13);
    pair.exchange();
    CHECK(pair.server.received == pair.client.to_send);
    CHECK(pair.client.received == pair.server.to_send);
  }
}

TEST(a_certificate_of_another_authority) {
  if (const Certificates* files = certificates()) {
    const TlsContext member(files->options("rank", "authority"), "");
    const TlsContext intruder(files->options("intruder", "authority"), "");
    Pair at_the_server(intruder, member);
    CHECK(contains(at_the_server.failure_of(at_the_server.server), "certificate verify failed"));
    Pair at_the_client(member, intruder);
    CHECK(contains(at_the_client.failure_of(at_the_client.client), "unable to get local issuer"));
  }
}

TEST(a_certificate_is_no_substitute_for_the_secret) {
  if (const Certificates* files = certificates()) {
    const TlsContext keyed = with_secret("hush");
    const TlsContext certified(files->options("rank", "authority"), "");
    Pair to_the_client(keyed, certified);
    CHECK(contains(to_the_client.failure_of(to_the_client.client), "certificate verify failed"));
    Pair to_the_server(certified, keyed);
    CHECK(contains(to_the_server.failure_of(to_the_server.server), "the TLS handshake failed"));
  }
}

TEST(files_that_do_not_fit) {
  if (const Certificates* files = certificates()) {
    TlsOptions options = files->options("rank", "authority");
    options.key = files->file("intruder.key");
    CHECK_THROWS(InvalidArgument, "key values mismatch", TlsContext(options, ""));
    files->openssl("ec -in rank.key -aes128 -passout pass:hush -out locked.key");
    options.key = files->file("locked.key");
    CHECK_THROWS(InvalidArgument, "locked.key' cannot be used", TlsContext(options, ""));
  }
}

} // namespace
