#include "transport/sockets.hpp"

#include "core/error.hpp"
#include "transport/system.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace thinwire {
namespace {

constexpr int kUnsentBytes = 256 * 1024; // more would only lie in the kernel, out of our order

Descriptor make_socket(int family) {
  return Descriptor(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

void set_option(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

// Both families where the machine has IPv6, else IPv4.
Descriptor make_dual_socket(int& family) {
  family = AF_INET6;
  Descriptor socket = make_socket(family);
  if (socket) {
    set_option(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
    return socket;
  }
  family = AF_INET;
  return make_socket(family);
}

bool try_listening(const Descriptor& socket, const Endpoint& at) {
  return ::bind(socket.get(), at.address(), at.bytes()) == 0 &&
         ::listen(socket.get(), SOMAXCONN) == 0;
}

Descriptor listen_at(std::uint16_t port) {
  int family;
  Descriptor socket = make_dual_socket(family);
  if (!socket)
    system_call_failed("opening a TCP socket");
  // After a restart the port may still be held by finished connections.
  set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (try_listening(socket, Endpoint::of_host(family == AF_INET6 ? "::" : "0.0.0.0", port)))
    return socket;
  if (family == AF_INET6 && errno == EADDRNOTAVAIL) { // IPv6 compiled in but switched off
    socket = make_socket(AF_INET);
    set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (try_listening(socket, Endpoint::of_host("0.0.0.0", port)))
      return socket;
  }
  return {};
}

} // namespace

Descriptor listen_tcp(int first_port, int last_port) {
  for (int port = first_port; port <= std::max(first_port, last_port); ++port)
    if (Descriptor socket = listen_at(static_cast<std::uint16_t>(port)))
      return socket;
  if (first_port == 0)
    system_call_failed("listening on a free TCP port");
  const std::string cause = std::strerror(errno);
  throw TransportError("no TCP port from " + std::to_string(first_port) + " to " +
                       std::to_string(std::max(first_port, last_port)) +
                       " can be listened on: " + cause);
}

Descriptor listen_unix(const std::string& name) {
  Descriptor socket = make_socket(AF_UNIX);
  if (!socket || !try_listening(socket, Endpoint::of_unix(name)))
    system_call_failed("listening on the Unix socket " + name);
  return socket;
}

Descriptor accept_socket(int listening) {
  return Descriptor(::accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

Descriptor start_connecting(const Endpoint& to, const Endpoint& from) {
  Descriptor socket = make_socket(to.family());
  if (!socket)
    system_call_failed("opening a socket");
  if (from.bytes() != 0 && ::bind(socket.get(), from.address(), from.bytes()) != 0)
    system_call_failed("binding to " + from.host());
  if (::connect(socket.get(), to.address(), to.bytes()) != 0 && errno != EINPROGRESS)
    throw TransportError(std::string("it cannot be reached: ") + std::strerror(errno));
  return socket;
}

void tune_tcp(int fd, const std::string& congestion, std::uint64_t pacing) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, kUnsentBytes);
  if (!congestion.empty() && ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion.data(),
                                          static_cast<socklen_t>(congestion.size())) != 0)
    system_call_failed("choosing the congestion control '" + congestion + "'");
  if (pacing != 0)
    ::setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pacing, sizeof pacing);
}

int pending_error(int fd) {
  int error = 0;
  socklen_t bytes = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
  return error;
}

bool is_same_user(int fd) {
  ucred who{};
  socklen_t bytes = sizeof who;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 && who.uid == ::geteuid();
}

} // namespace thinwire
