#include "transport/endpoint.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstddef>
#include <cstring>
#include <netinet/in.h>
#include <sys/un.h>

namespace thinwire {
namespace {

template <class Address> Address as(const sockaddr_storage& storage) {
  Address address;
  std::memcpy(&address, &storage, sizeof address);
  return address;
}

Endpoint named(int fd, int (*name)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof storage;
  if (name(fd, reinterpret_cast<sockaddr*>(&storage), &bytes) != 0)
    return {};
  return Endpoint(reinterpret_cast<sockaddr*>(&storage), bytes);
}

} // namespace

Endpoint::Endpoint(const sockaddr* address, socklen_t bytes)
    : bytes_(std::min<socklen_t>(bytes, sizeof storage_)) {
  std::memcpy(&storage_, address, bytes_);
  const auto v6 = as<sockaddr_in6>(storage_);
  if (family() != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
    return;
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = v6.sin6_port;
  std::memcpy(&v4.sin_addr, v6.sin6_addr.s6_addr + 12, sizeof v4.sin_addr);
  *this = Endpoint(reinterpret_cast<sockaddr*>(&v4), sizeof v4);
}

Endpoint Endpoint::of_host(const std::string& host, std::uint16_t port) {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1)
    return Endpoint(reinterpret_cast<sockaddr*>(&v4), sizeof v4);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  if (::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1)
    return Endpoint(reinterpret_cast<sockaddr*>(&v6), sizeof v6);
  throw InvalidArgument("'" + host + "' is no numeric IPv4 or IPv6 address");
}

Endpoint Endpoint::of_unix(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::min(name.size(), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path + 1, name.data(), length); // after a zero: abstract
  return Endpoint(reinterpret_cast<sockaddr*>(&address),
                  static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length));
}

Endpoint Endpoint::local(int fd) { return named(fd, ::getsockname); }
Endpoint Endpoint::remote(int fd) { return named(fd, ::getpeername); }

std::uint16_t Endpoint::port() const {
  if (family() == AF_INET)
    return ntohs(as<sockaddr_in>(storage_).sin_port);
  if (family() == AF_INET6)
    return ntohs(as<sockaddr_in6>(storage_).sin6_port);
  return 0;
}

std::string Endpoint::host() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (family() == AF_INET) {
    const auto v4 = as<sockaddr_in>(storage_);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
  } else if (family() == AF_INET6) {
    const auto v6 = as<sockaddr_in6>(storage_);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  }
  return text.data();
}

std::string Endpoint::text() const {
  if (family() == AF_INET)
    return host() + ":" + std::to_string(port());
  if (family() == AF_INET6)
    return std::string("[").append(host()).append("]:").append(std::to_string(port()));
  constexpr auto start = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1);
  if (family() != AF_UNIX || bytes_ <= start)
    return "unix";
  const auto name = as<sockaddr_un>(storage_);
  return "unix:" + std::string(name.sun_path + 1, bytes_ - start);
}

bool Endpoint::is_loopback() const {
  if (family() == AF_INET)
    return (ntohl(as<sockaddr_in>(storage_).sin_addr.s_addr) >> 24) == 127;
  const auto v6 = as<sockaddr_in6>(storage_);
  return family() == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

bool Endpoint::is_link_local() const {
  const auto v6 = as<sockaddr_in6>(storage_);
  return family() == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr);
}

} // namespace thinwire
