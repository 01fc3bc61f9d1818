#include "transport/system.hpp"

#include <cerrno>
#include <cstring>
#include <sys/random.h>

namespace thinwire {

void system_call_failed(const std::string& what) {
  const int error = errno;
  const std::string failure = what + " failed: " + std::strerror(error);
  if (error == EMFILE)
    throw OutOfResources(failure + "; raise the limit on open files (ulimit -n)");
  if (is_out_of_resources(error))
    throw OutOfResources(failure);
  throw TransportError(failure);
}

bool is_out_of_resources(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
         error == ENOSPC;
}

bool is_own_want(const Error& error) {
  return dynamic_cast<const OutOfResources*>(&error) || dynamic_cast<const PoolExhausted*>(&error);
}

void fill_randomly(std::span<std::byte> out) {
  if (::getrandom(out.data(), out.size(), 0) != static_cast<ssize_t>(out.size()))
    system_call_failed("getrandom");
}

} // namespace thinwire
