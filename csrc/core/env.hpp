// Every THINWIRE_* variable the native code reads, with its meaning and default.
#pragma once

#include <string>

namespace thinwire {

struct Env {
  // THINWIRE_FORCE_TARGET: the CPU target to start with (scalar, avx2, avx512, neon). Default:
  // empty, the best one.
  std::string force_target;

  static const Env& get(); // read once, at first use
};

} // namespace thinwire
