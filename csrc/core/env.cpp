#include "core/env.hpp"

#include <cstdlib>

namespace thinwire {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

} // namespace

const Env& Env::get() {
  static const Env env{.force_target = variable("THINWIRE_FORCE_TARGET")};
  return env;
}

} // namespace thinwire
