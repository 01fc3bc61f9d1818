// The rotation of blocks (codec/rotation.hpp) by vectors.

// The flips of every index of a block.
struct Flips {
  alignas(64) float signs[kLargestBlock];

  explicit Flips(std::size_t block) {
    for (std::size_t i = 0; i < block; i += kLanes) {
      const I index = I::lanes() + I::splat(static_cast<std::uint32_t>(i));
      store<DType::fp32>(signs + i, from_bits(flip_of(index)));
    }
  }
  F flipped(const float* v, std::size_t i) const {
    return from_bits(bits(load<DType::fp32>(v + i)) ^ bits(load<DType::fp32>(signs + i)));
  }
};

// Sums of lanes that are 1 << k apart in the lower one of each two, differences in the upper one.
template <int k> THINWIRE_HD F sums_and_differences(F a) {
  const I upper = shl<31 - k>(I::lanes()) & I::splat(~kMagnitudeMask);
  return swap_lanes<1 << k>(a) + from_bits(bits(a) ^ upper);
}

THINWIRE_HD F transform_lanes(F a) {
  return sums_and_differences<3>(
      sums_and_differences<2>(sums_and_differences<1>(sums_and_differences<0>(a))));
}

// The rest of the transform of a block whose vectors have passed transform_lanes().
void transform_vectors(float* v, std::size_t block) {
  for (std::size_t apart = kLanes; apart < block; apart *= 2)
    for (std::size_t first = 0; first < block; first += 2 * apart)
      for (std::size_t i = first; i < first + apart; i += kLanes) {
        const F a = load<DType::fp32>(v + i), b = load<DType::fp32>(v + i + apart);
        store<DType::fp32>(v + i, a + b);
        store<DType::fp32>(v + i + apart, a - b);
      }
}

void rotate(const float* y, std::size_t block, const Flips& flips, float* rotated) {
  for (std::size_t i = 0; i < block; i += kLanes)
    store<DType::fp32>(rotated + i, transform_lanes(flips.flipped(y, i)));
  transform_vectors(rotated, block);
}

void rotate_back(float* v, std::size_t block, const Flips& flips) {
  for (std::size_t i = 0; i < block; i += kLanes)
    store<DType::fp32>(v + i, transform_lanes(load<DType::fp32>(v + i)));
  transform_vectors(v, block);
  for (std::size_t i = 0; i < block; i += kLanes)
    store<DType::fp32>(v + i, flips.flipped(v, i));
}
