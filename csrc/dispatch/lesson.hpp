// What a decoded matrix teaches, and how it is handed over: steps 4 to 6 of docs/basis.md, and
// "Handed over in parts" there.
#pragma once

#include "core/types.hpp"
#include "dispatch/basis.hpp"

namespace thinwire {

// Of a matrix of `rows` rows in memory of any dtype. `next` becomes the basis of the next step.
// Where `after` is not null, a share of what the matrix and `before` have beside the basis is left
// in the matrix, and the rest becomes `after`, bf16 like `before` and as many values as the matrix;
// both may be the same memory. A matrix of zeros stays as it is, and hands over nothing.
struct Lesson {
  Basis basis;
  void* matrix;
  DType dtype;
  std::size_t rows;
  float* next;
  float share;
  const std::uint16_t* before;
  std::uint16_t* after;
};

} // namespace thinwire
