// CPU targets: what this machine can run, and which one is in use.
#pragma once

#include <string>
#include <vector>

namespace thinwire {

// In rising order of preference.
enum class Target { scalar, avx2, avx512, neon };

const char* name(Target target);

// The targets this CPU and this build can run, slowest first.
const std::vector<Target>& available_targets();

// The target kernels run on: the forced one, else the best. Throws InvalidArgument where
// THINWIRE_FORCE_TARGET names one that this machine lacks.
Target active_target();

// Forces a target by name for the whole process; an empty name goes back to the best one. Throws
// InvalidArgument.
void force_target(const std::string& target_name);

} // namespace thinwire
