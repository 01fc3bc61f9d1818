// The handshake as bytes: who is let in, and what an attacker on the wire can do.
#include "check.hpp"
#include "transport/handshake.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

using namespace thinwire;
using State = Handshake::State;
using Bytes = std::vector<std::byte>;

Hello connector_hello() {
  Hello hello;
  hello.group = 5;
  hello.sender = 3;
  hello.receiver = 1;
  hello.stripe = 2;
  hello.stripes = 4;
  return hello;
}

Hello acceptor_hello() {
  Hello hello;
  hello.group = 5;
  hello.sender = 1;
  return hello;
}

std::string anybody(const Hello&) { return {}; }

Handshake connecting(const std::string& secret, const Hello& hello = connector_hello()) {
  return Handshake::connecting(hello, secret);
}
Handshake accepting(const std::string& secret, const Hello& hello = acceptor_hello()) {
  return Handshake::accepting(hello, secret, anybody);
}

Bytes take(Handshake& from) {
  const auto out = from.outgoing();
  Bytes bytes(out.begin(), out.end());
  from.sent(bytes.size());
  return bytes;
}

// In pieces of at most `piece` bytes.
void give(Handshake& to, const Bytes& bytes, std::size_t piece = 1000) {
  for (std::size_t at = 0; at < bytes.size() && to.state() == State::running;) {
    const auto room = to.incoming();
    const std::size_t n = std::min({piece, room.size(), bytes.size() - at});
    std::memcpy(room.data(), bytes.data() + at, n);
    to.received(n);
    at += n;
  }
}

void talk(Handshake& a, Handshake& b, std::size_t piece = 1000) {
  for (int turn = 0; turn < 3; ++turn) {
    give(b, take(a), piece);
    give(a, take(b), piece);
  }
}

TEST(both_sides_agree_with_and_without_a_secret) {
  for (const std::string secret : {"", "swordfish"})
    for (std::size_t piece : {1, 7, 1000}) {
      Handshake a = connecting(secret), b = accepting(secret);
      talk(a, b, piece);
      CHECK(a.state() == State::done && b.state() == State::done);
      CHECK(b.other().sender == 3 && b.other().stripe == 2 && b.other().stripes == 4);
      CHECK(a.session_keys().has_value() == !secret.empty());
      if (secret.empty())
        continue;
      CHECK(a.session_keys()->send == b.session_keys()->receive);
      CHECK(a.session_keys()->receive == b.session_keys()->send);
      CHECK(a.session_keys()->receive != a.session_keys()->send);
    }
}

TEST(keys_differ_between_connections) {
  Handshake a = connecting("s"), b = accepting("s"), c = connecting("s"), d = accepting("s");
  talk(a, b);
  talk(c, d);
  CHECK(a.session_keys()->send != c.session_keys()->send);
}

TEST(unlike_secrets_are_told_to_both) {
  Handshake a = connecting("right"), b = accepting("wrong");
  talk(a, b);
  CHECK(a.state() == State::failed && b.state() == State::failed);
  CHECK(a.is_hopeless());
  CHECK(a.failure() == "has another secret" && b.failure() == "has another secret");
  CHECK(!a.session_keys() && !b.session_keys());
}

TEST(a_secret_on_one_side_is_told_to_both) {
  Handshake a = connecting(""), b = accepting("s");
  talk(a, b);
  CHECK(a.state() == State::failed && a.failure().find("has a secret") == 0);
  CHECK(b.state() == State::failed && b.failure().find("has no secret") == 0);
  Handshake c = connecting("s"), d = accepting("");
  talk(c, d);
  CHECK(c.state() == State::failed && d.state() == State::failed);
}

TEST(a_replayed_conversation_is_refused) {
  Handshake a = connecting("s"), b = accepting("s");
  const Bytes hello = take(a);
  give(b, hello);
  give(a, take(b));
  const Bytes proof = take(a);
  give(b, proof);
  CHECK(b.state() == State::done);

  Handshake again = accepting("s");
  give(again, hello);
  take(again);
  give(again, proof);
  CHECK(again.state() == State::failed);
}

// A stranger without the secret gives a rank its own messages back.
TEST(reflected_messages_are_refused) {
  Handshake a = connecting("s");
  give(a, take(a));
  CHECK(a.state() == State::failed && a.failure() == "is another rank");

  // The connector's proof is no acceptor's proof.
  Handshake b = connecting("s"), c = accepting("s");
  give(c, take(b));
  give(b, take(c));
  give(b, take(b));
  CHECK(b.state() == State::failed);
}

TEST(every_flipped_bit_of_the_hellos_and_the_proofs_is_found) {
  for (std::size_t message = 0; message < 4; ++message)
    for (std::size_t bit = 0; bit < 8 * (message < 2 ? sizeof(Hello) : 32); ++bit) {
      check::context = "message " + std::to_string(message) + " bit " + std::to_string(bit);
      Handshake a = connecting("s"), b = accepting("s");
      for (std::size_t i = 0; i < 4; ++i) {
        Handshake &from = i % 2 == 0 ? a : b, &to = i % 2 == 0 ? b : a;
        Bytes bytes = take(from);
        if (i == message && bit / 8 < bytes.size())
          bytes[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        give(to, bytes);
      }
      CHECK(a.state() != State::done);
      CHECK(message == 3 || b.state() != State::done);
    }
}

TEST(garbage_is_refused_at_its_first_byte) {
  Handshake b = accepting("");
  give(b, {std::byte{'G'}});
  CHECK(b.state() == State::failed && b.failure() == "does not speak thinwire");
  CHECK(b.outgoing().empty());
}

TEST(both_learn_of_another_wire_version) {
  Hello older = connector_hello();
  older.wire_version = kFrameVersion + 1;
  Handshake a = connecting("", older), b = accepting("");
  talk(a, b);
  for (const Handshake* side : {&a, &b}) {
    CHECK(side->state() == State::failed && side->is_hopeless());
    CHECK(side->has_other_version());
    CHECK(side->failure().find("version " + std::to_string(kFrameVersion)) != std::string::npos);
    CHECK(side->failure().find("version " + std::to_string(kFrameVersion + 1)) !=
          std::string::npos);
  }
}

TEST(who_is_not_welcome_hears_nothing) {
  Handshake b = Handshake::accepting(acceptor_hello(), "", [](const Hello& hello) {
    return hello.group == 6 ? std::string() : std::string("belongs to another group");
  });
  Handshake a = connecting("");
  give(b, take(a));
  CHECK(b.state() == State::failed && b.failure() == "belongs to another group");
  CHECK(b.outgoing().empty() && !b.is_hopeless());
}

} // namespace
