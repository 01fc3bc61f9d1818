// How two ranks get to know each other on a new socket, as bytes in and bytes out: no socket here.
//
//   the one that connects        the one that accepts
//   hello             ->
//                     <-         hello
//   proof             ->
//                     <-         proof
//
// A proof is a keyed BLAKE3 over both hellos, under the hash of the secret: it binds ranks, group,
// versions, stripe and both nonces, and differs by direction. The stranger proves first. Without a
// secret the proofs show only that both mean the same connection.
#pragma once

#include "transport/frame_tag.hpp"
#include "transport/mesh.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

namespace thinwire {

inline constexpr std::uint32_t kHelloMagic = 0x4c485754; // "TWHL"
inline constexpr std::uint16_t kHandshakeVersion = 1;

struct Hello {
  std::uint32_t magic = kHelloMagic;
  std::uint16_t handshake_version = kHandshakeVersion;
  std::uint16_t wire_version = kFrameVersion;
  std::uint64_t group = 0;
  std::uint32_t sender = 0;
  std::uint32_t receiver = 0;
  std::uint16_t stripe = 0;
  std::uint16_t stripes = 1;
  LinkKind kind = LinkKind::tcp;
  std::uint8_t has_secret = 0;
  std::uint16_t reserved = 0;
  std::array<std::byte, 32> nonce{};
};

static_assert(sizeof(Hello) == 64 && offsetof(Hello, group) == 8 && offsetof(Hello, stripe) == 24 &&
              offsetof(Hello, kind) == 28 && offsetof(Hello, nonce) == 32);

class Handshake {
public:
  // Why a hello is not welcome; empty where it is.
  using Welcome = std::function<std::string(const Hello&)>;
  enum class State { running, done, failed };

  // `mine` needs no nonce and no has_secret.
  static Handshake connecting(const Hello& mine, const std::string& secret);
  // Of `mine`, the receiver, the stripe and the kind are taken from the other's hello.
  static Handshake accepting(const Hello& mine, const std::string& secret, Welcome welcome);

  State state() const { return state_; }
  const std::string& failure() const { return failure_; } // what the other does, for "it ..."
  bool is_hopeless() const { return hopeless_; }          // to try again would change nothing
  // The hello was welcome, but for the release it comes from.
  bool has_other_version() const { return other_version_; }
  bool has_heard() const { return heard_; } // a fitting hello has come
  const Hello& other() const { return other_; }
  // With a secret, once done.
  std::optional<SessionKeys> session_keys() const;

  // What to send next, and that so much of it was sent. It may not be empty when the state is done
  // or failed: the other should still get it.
  std::span<const std::byte> outgoing() const {
    return std::span(out_).subspan(sent_, size_ - sent_);
  }
  void sent(std::size_t bytes) { sent_ += bytes; }
  // Where what comes goes: never more than belongs to the handshake.
  std::span<std::byte> incoming() { return std::span(in_).subspan(have_, need_ - have_); }
  void received(std::size_t bytes);

private:
  Handshake(const Hello& mine, const std::string& secret, bool connects);

  void on_hello();
  void on_proof();
  void answer();
  void send(std::span<const std::byte> bytes);
  void fail(std::string what, bool hopeless);
  bool check_versions();
  std::string mismatch() const;
  Blake3Digest derive(const char* purpose) const;
  Blake3Digest proof(bool of_connector) const;

  Hello mine_, other_;
  Blake3Key key_;
  bool connects_;
  Welcome welcome_;
  State state_ = State::running;
  bool heard_ = false, hopeless_ = false, other_version_ = false;
  std::string failure_;
  std::array<std::byte, sizeof(Hello)> in_, out_;
  std::size_t have_ = 0, need_ = sizeof(Hello);
  std::size_t sent_ = 0, size_ = 0;
};

} // namespace thinwire
