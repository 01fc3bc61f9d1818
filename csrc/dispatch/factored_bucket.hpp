// A bucket whose matrices travel as factors, on a device: docs/powersgd.md.
#pragma once

#include "dispatch/low_rank.hpp"

#include <vector>

namespace thinwire {

// A matrix and the factor that a step sends in its place, rank x rows or rank x columns.
struct FactoredMatrix {
  LowRank matrix;
  void* values;            // the gradient, and at the end what was received
  const void* residual_in; // may be null
  void* residual_out;      // may be null or residual_in
  float* sent;             // what this rank gives; at the end, as others take it
  float* losses;           // the same, which what the codec lost of it replaces
  float* mean;             // zeros, which the mean replaces
  float* next;             // where the next steps' factor goes
};

// Values that the stand-in has as the bucket has them.
struct CopiedValues {
  void* values;
  std::size_t count;
  float* stand_in;
};

struct FactoredBucket {
  Factor which;
  DType dtype, residual_dtype;
  float scale; // of the gradients
  std::vector<FactoredMatrix> matrices = {};
  std::vector<CopiedValues> copied = {};
};

// A decoded gradient, from which the next steps' factor is learnt.
struct FactorLesson {
  LowRank matrix;
  const void* values;
  float* next;
};

} // namespace thinwire
