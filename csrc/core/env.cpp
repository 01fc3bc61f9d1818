#include "core/env.hpp"

#include <cstdlib>

namespace thinwire {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

} // namespace

Env Env::read() {
  return {.force_target = variable("THINWIRE_FORCE_TARGET"),
          .interface = variable("THINWIRE_IFACE"),
          .ports = variable("THINWIRE_PORTS"),
          .sockets = variable("THINWIRE_SOCKETS"),
          .secret = variable("THINWIRE_SECRET"),
          .site = variable("THINWIRE_SITE"),
          .store_passphrase = variable("THINWIRE_STORE_PASSPHRASE"),
          .store_key_file = variable("THINWIRE_STORE_KEY_FILE")};
}

const Env& Env::get() {
  static const Env env = read();
  return env;
}

} // namespace thinwire
