// What the bindings of communicators share.
#pragma once

#include "bind/frame_values.hpp"

#include "ring/collectives.hpp"

namespace thinwire::bind {

py::dict stage_seconds(const Costs& costs);
void register_collectives(py::module_& m);

} // namespace thinwire::bind
