#include "ring/combine.hpp"

#include <cmath>
#include <cstdio>
#include <limits>

namespace thinwire {
namespace {

constexpr double kTolerance = 1e-6;

// The same whichever operand comes first.
float greater_of(float a, float b) {
  if (std::isnan(a) || std::isnan(b))
    return std::numeric_limits<float>::quiet_NaN();
  return a > b || (a == b && !std::signbit(a)) ? a : b;
}

} // namespace

void combine(Combine how, const float* a, const float* b, std::size_t n, float* result) {
  if (how == Combine::add)
    for (std::size_t i = 0; i < n; ++i)
      result[i] = a[i] + b[i];
  else
    for (std::size_t i = 0; i < n; ++i)
      result[i] = greater_of(a[i], b[i]);
}

bool adds_up(double weights) { return std::abs(weights - 1) <= kTolerance; }

Failure wrong_weights(double weights) {
  char text[96];
  std::snprintf(text, sizeof text, "the weights of all ranks must add up to 1, not %.9g", weights);
  return {ErrorNumber::invalid_argument, text};
}

} // namespace thinwire
