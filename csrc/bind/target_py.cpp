#include "bind/bind.hpp"

#include "core/cpu.hpp"

#include <optional>
#include <string>
#include <vector>

namespace thinwire::bind {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = __VERSION__; // Clang's names itself
#else
constexpr const char* kCompiler = "GCC " __VERSION__;
#endif

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (Target target : available_targets())
    names.emplace_back(name(target));
  return names;
}

py::dict build_info() {
  py::dict info;
#if defined(THINWIRE_HAS_CUDA)
  info["cuda"] = true;
#else
  info["cuda"] = false;
#endif
  info["cuda_reason"] = THINWIRE_CUDA_REASON;
  info["cuda_archs"] = THINWIRE_CUDA_ARCHS;
  info["compiler"] = kCompiler;
  info["targets"] = target_names();
  return info;
}

} // namespace

void register_targets(py::module_& m) {
  m.def("build_info", &build_info, "What this build contains.");
  m.def("targets", &target_names, "CPU targets this machine can run, slowest first.");
  m.def("active_target", [] { return name(active_target()); }, "The CPU target kernels run on.");
  m.def(
      "force_target",
      [](const std::optional<std::string>& target) { force_target(target.value_or("")); },
      py::arg("target").none(true),
      "Forces a CPU target for this process; None goes back to the best.");
}

} // namespace thinwire::bind
