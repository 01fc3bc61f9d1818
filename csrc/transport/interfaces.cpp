#include "transport/interfaces.hpp"

#include "core/error.hpp"
#include "transport/system.hpp"

#include <algorithm>
#include <ifaddrs.h>
#include <memory>
#include <net/if.h>
#include <netinet/in.h>

namespace thinwire {
namespace {

Interface& entry(std::vector<Interface>& all, const std::string& name) {
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const Interface& known) { return known.name == name; });
  return found != all.end() ? *found : all.emplace_back(Interface{name, {}});
}

bool is_usable(const Endpoint& address) {
  return (address.family() == AF_INET || address.family() == AF_INET6) && !address.is_link_local();
}

bool is_loopback(const Interface& interface) {
  return !interface.addresses.empty() && interface.addresses.front().is_loopback();
}

std::vector<Interface> interfaces_up() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0)
    system_call_failed("getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, ::freeifaddrs);
  std::vector<Interface> all;
  for (const ifaddrs* item = list; item; item = item->ifa_next) {
    if (!(item->ifa_flags & IFF_UP))
      continue;
    Interface& interface = entry(all, item->ifa_name);
    if (!item->ifa_addr)
      continue;
    const int family = item->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6)
      continue;
    const Endpoint address(item->ifa_addr,
                           family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    if (is_usable(address))
      interface.addresses.push_back(address);
  }
  for (Interface& interface : all)
    std::stable_sort(interface.addresses.begin(), interface.addresses.end(),
                     [](const Endpoint& a, const Endpoint& b) { return a.family() < b.family(); });
  return all;
}

std::string names_of(const std::vector<Interface>& all) {
  std::string names;
  for (const Interface& interface : all)
    names += (names.empty() ? "" : ", ") + interface.name;
  return names.empty() ? "none" : names;
}

static_assert(AF_INET < AF_INET6, "families are sorted by number");

} // namespace

const Endpoint* Interface::address_of(int family) const {
  for (const Endpoint& address : addresses)
    if (address.family() == family)
      return &address;
  return nullptr;
}

std::vector<Interface> usable_interfaces(const std::vector<std::string>& names) {
  std::vector<Interface> all = interfaces_up();
  if (names.empty()) {
    std::erase_if(all, [](const Interface& interface) { return interface.addresses.empty(); });
    std::stable_partition(all.begin(), all.end(),
                          [](const Interface& interface) { return !is_loopback(interface); });
    return all;
  }
  std::vector<Interface> chosen;
  for (const std::string& name : names) {
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const Interface& known) { return known.name == name; });
    if (found == all.end())
      throw TransportError("there is no network interface '" + name +
                           "' that is up; there are: " + names_of(all));
    if (found->addresses.empty())
      throw TransportError("the network interface '" + name + "' has no address");
    chosen.push_back(*found);
  }
  return chosen;
}

std::vector<std::string> hosts_of(const std::vector<Interface>& interfaces) {
  std::vector<std::string> hosts;
  for (const bool loopback : {false, true})
    for (const int family : {AF_INET, AF_INET6})
      for (const Interface& interface : interfaces)
        for (const Endpoint& address : interface.addresses)
          if (address.family() == family && address.is_loopback() == loopback)
            hosts.push_back(address.host());
  return hosts;
}

std::string interface_with(const Endpoint& address) {
  for (const Interface& interface : interfaces_up())
    for (const Endpoint& known : interface.addresses)
      if (known.host() == address.host())
        return interface.name;
  return {};
}

} // namespace thinwire
