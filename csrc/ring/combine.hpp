// What sums and weights have in common across schedules.
#pragma once

#include "ring/failure.hpp"
#include "ring/plan.hpp"

#include <cstddef>

namespace thinwire {

// result[i] = a[i] + b[i], or the greater one (NaN wins, +0 is greater than -0). result may be a or
// b.
void combine(Combine how, const float* a, const float* b, std::size_t n, float* result);

bool adds_up(double weights); // to 1, but for rounding
Failure wrong_weights(double weights);

} // namespace thinwire
