// The loops over one block of values; every CPU target comes to the same bits.
#pragma once

#include "io/summary.hpp"

namespace thinwire {

inline constexpr std::size_t kSummaryBlock = 1024; // values, at most

// Counts the values of a block and sorts the finite ones into bins; moves the values about.
void summarise_block(float* block, std::size_t count, Counters& counters, std::uint64_t* bins);
void summarise_block(double* block, std::size_t count, Counters& counters, std::uint64_t* bins);

} // namespace thinwire
