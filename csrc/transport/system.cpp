#include "transport/system.hpp"

#include "core/error.hpp"

#include <cerrno>
#include <cstring>
#include <sys/random.h>

namespace thinwire {

void system_call_failed(const std::string& what) {
  throw TransportError(what + " failed: " + std::strerror(errno));
}

void fill_randomly(std::span<std::byte> out) {
  if (::getrandom(out.data(), out.size(), 0) != static_cast<ssize_t>(out.size()))
    system_call_failed("getrandom");
}

} // namespace thinwire
