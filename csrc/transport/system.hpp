// Calls of the system's that fail, and random bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace thinwire {

// Throws the TransportError "<what> failed: <why>", where errno says why.
[[noreturn]] void system_call_failed(const std::string& what);

// With bytes of the kernel's that nobody can guess. Throws TransportError.
void fill_randomly(std::span<std::byte> out);

} // namespace thinwire
