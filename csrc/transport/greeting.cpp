#include "transport/greeting.hpp"

#include "core/error.hpp"
#include "transport/sockets.hpp"

#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/epoll.h>

namespace thinwire {
namespace {

constexpr std::uint32_t kBoth = EPOLLIN | EPOLLOUT;

bool has_finished_connecting(int fd) {
  pollfd look{.fd = fd, .events = POLLOUT, .revents = 0};
  return ::poll(&look, 1, 0) > 0;
}

} // namespace

Greeting::Greeting(Descriptor fd, std::unique_ptr<Stream> stream, Handshake handshake,
                   bool connecting, Poller& poller)
    : poller_(poller), fd_(std::move(fd)), stream_(std::move(stream)),
      handshake_(std::move(handshake)), connecting_(connecting),
      remote_(Endpoint::remote(fd_.get())) {
  poller_.add(fd_.get(), connecting ? kBoth : EPOLLIN, *this);
}

Greeting::~Greeting() {
  if (fd_)
    poller_.remove(fd_.get(), *this);
}

Channel Greeting::take() {
  poller_.remove(fd_.get(), *this);
  return {std::move(fd_), std::move(stream_), handshake_.session_keys()};
}

Handshake::State Greeting::advance() {
  if (!failure_.empty())
    return Handshake::State::failed;
  if (!std::exchange(ready_, false))
    return Handshake::State::running;
  try {
    if (!is_connected())
      return Handshake::State::running;
    while (send() && handshake_.state() == Handshake::State::running && receive()) {
    }
    update_interest();
  } catch (const Error& error) {
    return fail(error.what());
  }
  if (handshake_.state() == Handshake::State::failed)
    return fail("it " + handshake_.failure());
  return handshake_.outgoing().empty() ? handshake_.state() : Handshake::State::running;
}

Handshake::State Greeting::fail(std::string what) {
  failure_ = std::move(what);
  return Handshake::State::failed;
}

bool Greeting::is_connected() {
  if (!connecting_)
    return true;
  if (!has_finished_connecting(fd_.get()))
    return false;
  if (const int error = pending_error(fd_.get()))
    throw TransportError(std::string("it cannot be reached: ") + std::strerror(error));
  connecting_ = false;
  remote_ = Endpoint::remote(fd_.get());
  if (remote_.family() == AF_UNIX && !is_same_user(fd_.get()))
    throw TransportError("it is a process of another user");
  return true;
}

// Whether all is sent.
bool Greeting::send() {
  while (!handshake_.outgoing().empty()) {
    const auto bytes = handshake_.outgoing();
    const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    const Stream::Result result = stream_->write({&part, 1});
    if (result.state != Stream::State::moved)
      return false;
    handshake_.sent(result.bytes);
  }
  return true;
}

// Whether anything came.
bool Greeting::receive() {
  const auto room = handshake_.incoming();
  const iovec part{room.data(), room.size()};
  const Stream::Result result = stream_->read({&part, 1});
  if (result.state == Stream::State::ended)
    throw TransportError("it closed the connection during the handshake");
  if (result.state == Stream::State::would_block)
    return false;
  handshake_.received(result.bytes);
  return true;
}

void Greeting::update_interest() {
  const bool is_blocked = !handshake_.outgoing().empty() && !stream_->write_wants_read();
  const bool wants_out = is_blocked || stream_->read_wants_write();
  poller_.change(fd_.get(), wants_out ? kBoth : EPOLLIN, *this);
}

} // namespace thinwire
