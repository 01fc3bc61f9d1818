// The rotation of a block before it is coded: signs flipped by a fixed pattern, then a
// Walsh-Hadamard transform. docs/wire/conventions.md, "Rotation"
#pragma once

#include "codec/math.hpp"

namespace thinwire {

// The sign bit where the value at `index` of a block is flipped, else 0.
template <class I> THINWIRE_HD I flip_of(I index) { return mix(index) & I::splat(~kMagnitudeMask); }

// The transform has no factor on the way there; what a code decodes to on the way back is divided
// by the size of the block first, which is exact: no sum is greater than what was coded.
THINWIRE_HD float rotated_scale(float scale, std::size_t block) {
  return scale * (1.0f / static_cast<float>(block));
}

} // namespace thinwire
