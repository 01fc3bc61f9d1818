// Copying from a mapped file that may shrink meanwhile, which the kernel answers with SIGBUS.
#pragma once

#include <cstddef>

namespace thinwire {

// Whether copies are guarded. The first call installs a handler of SIGBUS, which passes on every
// signal that is not its own; false once somebody else's has taken its place.
bool copies_are_guarded();

// Copies; returns false where the source has gone: the file has shrunk, or its disk has failed. The
// target is undefined then. Only while copies_are_guarded().
bool copy_guarded(std::byte* to, const std::byte* from, std::size_t bytes);

} // namespace thinwire
