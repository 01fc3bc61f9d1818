// What is compiled for one CPU target must be inlined into the function that carries its name.
#pragma once

#define THINWIRE_INLINE inline __attribute__((always_inline))
