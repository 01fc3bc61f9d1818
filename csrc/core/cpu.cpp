#include "core/cpu.hpp"

#include "core/env.hpp"
#include "core/error.hpp"

#include <atomic>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace thinwire {
namespace {

#if defined(__x86_64__)
bool has_f16c() { // which Clang's __builtin_cpu_supports does not know
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

std::vector<Target> detect() {
  std::vector<Target> found{Target::scalar};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (avx2)
    found.push_back(Target::avx2);
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    found.push_back(Target::avx512);
#elif defined(__aarch64__)
  found.push_back(Target::neon); // part of the architecture's baseline
#endif
  return found;
}

Target find(const std::string& target_name) {
  std::string here;
  for (Target target : available_targets()) {
    if (target_name == name(target))
      return target;
    here += std::string(here.empty() ? "" : ", ") + name(target);
  }
  throw InvalidArgument("CPU target '" + target_name +
                        "' cannot run here; this machine has: " + here);
}

Target initial_target() {
  const std::string& forced = Env::get().force_target;
  return forced.empty() ? available_targets().back() : find(forced);
}

std::atomic<Target>& current() {
  static std::atomic<Target> target{initial_target()};
  return target;
}

} // namespace

const char* name(Target target) {
  switch (target) {
  case Target::scalar:
    return "scalar";
  case Target::avx2:
    return "avx2";
  case Target::avx512:
    return "avx512";
  case Target::neon:
    return "neon";
  }
  return "unknown";
}

const std::vector<Target>& available_targets() {
  static const std::vector<Target> targets = detect();
  return targets;
}

Target active_target() { return current().load(std::memory_order_relaxed); }

void force_target(const std::string& target_name) {
  current().store(target_name.empty() ? available_targets().back() : find(target_name),
                  std::memory_order_relaxed);
}

} // namespace thinwire
