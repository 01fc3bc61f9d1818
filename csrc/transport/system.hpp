// Calls of the system's that fail, and random bytes.
#pragma once

#include "core/error.hpp"

#include <cstddef>
#include <span>
#include <string>

namespace thinwire {

// Throws the TransportError "<what> failed: <why>", where errno says why: OutOfResources where the
// system has no more to give.
[[noreturn]] void system_call_failed(const std::string& what);

bool is_out_of_resources(int error); // a value of errno

// Whether an error tells what this rank itself lacks: no doing of a peer's.
bool is_own_want(const Error& error);

// With bytes of the kernel's that nobody can guess. Throws TransportError.
void fill_randomly(std::span<std::byte> out);

} // namespace thinwire
