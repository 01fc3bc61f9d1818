#include "transport/handshake.hpp"

#include "transport/system.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace thinwire {
namespace {

constexpr Blake3Digest kRefusal{}; // in place of a proof: the other one's was wrong

std::string versions(const Hello& hello) {
  return std::to_string(hello.wire_version) + " (handshake " +
         std::to_string(hello.handshake_version) + ")";
}

} // namespace

Handshake::Handshake(const Hello& mine, const std::string& secret, bool connects)
    : mine_(mine), key_(blake3(std::as_bytes(std::span(secret)))), connects_(connects) {
  mine_.has_secret = !secret.empty();
  fill_randomly(mine_.nonce);
}

Handshake Handshake::connecting(const Hello& mine, const std::string& secret) {
  Handshake handshake(mine, secret, true);
  handshake.send(std::as_bytes(std::span(&handshake.mine_, 1)));
  return handshake;
}

Handshake Handshake::accepting(const Hello& mine, const std::string& secret, Welcome welcome) {
  Handshake handshake(mine, secret, false);
  handshake.welcome_ = std::move(welcome);
  return handshake;
}

void Handshake::send(std::span<const std::byte> bytes) {
  std::copy(bytes.begin(), bytes.end(), out_.begin());
  sent_ = 0;
  size_ = bytes.size();
}

void Handshake::fail(std::string what, bool hopeless) {
  state_ = State::failed;
  failure_ = std::move(what);
  hopeless_ = hopeless;
}

void Handshake::received(std::size_t bytes) {
  have_ += bytes;
  // Garbage is not waited for to the end.
  const std::size_t magic_bytes = std::min(have_, sizeof kHelloMagic);
  if (!heard_ && std::memcmp(in_.data(), &kHelloMagic, magic_bytes) != 0)
    return fail("does not speak thinwire", false);
  if (have_ < need_)
    return;
  heard_ ? on_proof() : on_hello();
}

void Handshake::on_hello() {
  std::memcpy(&other_, in_.data(), sizeof other_);
  if (!connects_) {
    if (std::string refusal = welcome_(other_); !refusal.empty())
      return fail(std::move(refusal), false);
    answer();
  }
  if (!check_versions())
    return;
  if (connects_) {
    if (std::string what = mismatch(); !what.empty())
      return fail(std::move(what), false);
    send(proof(true));
  }
  heard_ = true;
  have_ = 0;
  need_ = sizeof(Blake3Digest);
}

// Sent even to another version: it tells its user which two versions met.
void Handshake::answer() {
  mine_.receiver = other_.sender;
  mine_.stripe = other_.stripe;
  mine_.stripes = other_.stripes;
  mine_.kind = other_.kind;
  send(std::as_bytes(std::span(&mine_, 1)));
}

bool Handshake::check_versions() {
  const bool equal = other_.wire_version == mine_.wire_version &&
                     other_.handshake_version == mine_.handshake_version;
  other_version_ = !equal;
  if (!equal)
    fail("speaks wire version " + versions(other_) + ", this thinwire speaks version " +
             versions(mine_) + "; run the same thinwire release on every rank",
         true);
  return equal;
}

std::string Handshake::mismatch() const {
  if (other_.group != mine_.group)
    return "belongs to another group";
  if (other_.sender != mine_.receiver || other_.receiver != mine_.sender)
    return "is another rank";
  if (other_.stripe != mine_.stripe || other_.stripes != mine_.stripes || other_.kind != mine_.kind)
    return "answers for another connection";
  return {};
}

void Handshake::on_proof() {
  const Blake3Digest expected = proof(!connects_);
  const bool proven = equal_in_constant_time(in_.data(), expected.data(), expected.size());
  if (!connects_)
    send(proven ? proof(false) : kRefusal);
  if (proven)
    state_ = State::done;
  else if (mine_.has_secret != other_.has_secret)
    fail(other_.has_secret ? "has a secret and this rank has none"
                           : "has no secret and this rank has one",
         true);
  else
    fail("has another secret", true);
}

Blake3Digest Handshake::derive(const char* purpose) const {
  const Hello& connector = connects_ ? mine_ : other_;
  const Hello& acceptor = connects_ ? other_ : mine_;
  Blake3Digest digest;
  Blake3(key_)
      .update(std::as_bytes(std::span(std::string_view(purpose))))
      .update(std::as_bytes(std::span(&connector, 1)))
      .update(std::as_bytes(std::span(&acceptor, 1)))
      .finish(digest);
  return digest;
}

Blake3Digest Handshake::proof(bool of_connector) const {
  return derive(of_connector ? "thinwire proof of the connecting rank"
                             : "thinwire proof of the accepting rank");
}

std::optional<SessionKeys> Handshake::session_keys() const {
  if (!mine_.has_secret || state_ != State::done)
    return std::nullopt;
  const Blake3Key up = derive("thinwire frames of the connecting rank");
  const Blake3Key down = derive("thinwire frames of the accepting rank");
  return connects_ ? SessionKeys{up, down} : SessionKeys{down, up};
}

} // namespace thinwire
