// Number, mean and sum of squared deviations of values, put together from parts.
#pragma once

#include <cstdint>

namespace thinwire {

struct Moments {
  std::uint64_t count = 0;
  double mean = 0, squares = 0; // squares: of the deviations from the mean

  // Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample
  // variances, 1979.
  void merge(const Moments& other) {
    if (other.count == 0)
      return;
    const auto mine = static_cast<double>(count), others = static_cast<double>(other.count);
    const double apart = other.mean - mean, share = others / (mine + others);
    count += other.count;
    mean += apart * share;
    squares += other.squares + apart * apart * mine * share;
  }
};

} // namespace thinwire
