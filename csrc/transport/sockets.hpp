// Making sockets: all of them are non-blocking and closed on exec.
#pragma once

#include "transport/endpoint.hpp"
#include "transport/poller.hpp"

#include <cstdint>
#include <string>

namespace thinwire {

// On every local address, IPv6 and IPv4 where the machine has both, at the first free port of the
// range (0: any). Throws TransportError naming the range where none is free.
Descriptor listen_tcp(int first_port, int last_port);
Descriptor listen_unix(const std::string& abstract_name);

// Empty, with errno set, where there is none to accept.
Descriptor accept_socket(int listening);

// Starts to connect, from `from` where that has an address. Throws TransportError where that fails
// at once.
Descriptor start_connecting(const Endpoint& to, const Endpoint& from);

// What every link asks of its sockets. Throws TransportError for a congestion control that the
// system does not have.
void tune_tcp(int fd, const std::string& congestion, std::uint64_t pacing);

int pending_error(int fd);      // SO_ERROR
bool is_same_user(int unix_fd); // whether the process at the other end runs as this one's user

} // namespace thinwire
