// Where a socket is, or goes: an IPv4 or IPv6 address with a port, or an abstract Unix name.
#pragma once

#include <cstdint>
#include <string>
#include <sys/socket.h>

namespace thinwire {

class Endpoint {
public:
  Endpoint() = default;
  Endpoint(const sockaddr* address, socklen_t bytes); // IPv4 inside IPv6 becomes IPv4
  // Throws InvalidArgument where the host is no numeric address.
  static Endpoint of_host(const std::string& host, std::uint16_t port);
  static Endpoint of_unix(const std::string& abstract_name);
  static Endpoint local(int fd);
  static Endpoint remote(int fd);

  int family() const { return storage_.ss_family; }
  std::uint16_t port() const; // 0 for Unix
  std::string host() const;   // numeric
  std::string text() const;   // "10.0.0.1:4000", "[fd00::1]:4000", "unix:name"
  bool is_loopback() const;
  bool is_link_local() const;

  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t bytes() const { return bytes_; }

private:
  sockaddr_storage storage_{};
  socklen_t bytes_ = 0;
};

} // namespace thinwire
