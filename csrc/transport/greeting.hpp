// A socket on which the handshake is under way, from either side.
#pragma once

#include "transport/endpoint.hpp"
#include "transport/handshake.hpp"
#include "transport/tcp_link.hpp"

namespace thinwire {

// The one place where a socket becomes a stream.
using StreamMaker = std::function<std::unique_ptr<Stream>(int fd, bool server)>;

class Greeting final : public Pollable {
public:
  // `connecting`: connect() has not finished yet.
  Greeting(Descriptor fd, std::unique_ptr<Stream> stream, Handshake handshake, bool connecting,
           Poller& poller);
  ~Greeting();

  // Goes on as far as that is possible without waiting.
  Handshake::State advance();
  // Failed because a rank that was welcome closed it: it got through on another way.
  bool was_abandoned() const {
    return handshake_.has_heard() && handshake_.state() == Handshake::State::running;
  }
  const std::string& failure() const { return failure_; }
  const Handshake& handshake() const { return handshake_; }
  const Endpoint& remote() const { return remote_; }
  // Once done. The socket leaves the poller.
  Channel take();

  void ready(std::uint32_t) override { ready_ = true; }

private:
  bool is_connected();
  bool send();
  bool receive();
  Handshake::State fail(std::string what);
  void update_interest();

  Poller& poller_;
  Descriptor fd_;
  std::unique_ptr<Stream> stream_;
  Handshake handshake_;
  bool connecting_;
  bool ready_ = true; // it can begin at once
  Endpoint remote_;
  std::string failure_; // what happened
};

} // namespace thinwire
