// The machine's network interfaces and their addresses.
#pragma once

#include "transport/endpoint.hpp"

#include <string>
#include <vector>

namespace thinwire {

struct Interface {
  std::string name;
  // Port 0, without IPv6 link-local ones (they mean nothing to another machine); IPv4 first.
  std::vector<Endpoint> addresses;

  const Endpoint* address_of(int family) const; // the first, or null
};

// Those named, in that order, or where no name is given all that are up, loopback last. Throws
// TransportError for a name that does not exist (listing those that do) or has no address.
std::vector<Interface> usable_interfaces(const std::vector<std::string>& names);

// What to publish: the likeliest first, that is IPv4 before IPv6 and loopback at the end.
std::vector<std::string> hosts_of(const std::vector<Interface>& interfaces);

// The name of the interface with this address; empty where there is none.
std::string interface_with(const Endpoint& address);

} // namespace thinwire
