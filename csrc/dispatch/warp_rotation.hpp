// The rotation of the blocks of a tile (codec/rotation.hpp), in a warp's fast memory.
//
// A value takes log2(block) additions and half as many accesses of fast memory a way, and ten
// operations for its flip.
#pragma once

#include "dispatch/block_coding.hpp"
#include "dispatch/warp_scales.hpp"

namespace thinwire::lane {

// The quad at place i of a block, flipped.
THINWIRE_TEAM Quad flipped(Quad q, unsigned i) {
  return quad_of([&](unsigned j) { return from_bits(bits(q.v[j]) ^ flip_of(I::splat(i + j))); });
}

// The transform of four neighbours.
THINWIRE_TEAM Quad transformed(Quad q) {
  const F a = q.v[0] + q.v[1], b = q.v[0] - q.v[1], c = q.v[2] + q.v[3], d = q.v[2] - q.v[3];
  return {{a + c, b + d, a - c, b - d}};
}

// The rest of the transform of `count` values, whose quads are transformed.
template <class Team>
THINWIRE_TEAM void transform_quads(const Team& team, float* v, unsigned count, unsigned block) {
  for (unsigned apart = kQuad; apart < block; apart *= 2)
    each(team, count / (2 * kQuad), [=](std::size_t pair) {
      const unsigned i = kQuad * static_cast<unsigned>(pair), first = 2 * i - (i & (apart - 1));
      const Quad a = get(v, first), b = get(v, first + apart);
      put(v, first, a + b);
      put(v, first + apart, a - b);
    });
}

template <BlockCodec C, class Team>
THINWIRE_TEAM void rotate(const Team& team, const Tile<C>& tile, float* y) {
  each(team, tile.padded() / kQuad, [&](std::size_t number) {
    const unsigned i = kQuad * static_cast<unsigned>(number);
    put(y, i, transformed(flipped(get(y, i), i % tile.block)));
  });
  transform_quads(team, y, tile.padded(), tile.block);
}

// Back, but for the flips.
template <BlockCodec C, class Team>
THINWIRE_TEAM void transform_back(const Team& team, const Tile<C>& tile, float* v) {
  each(team, tile.padded() / kQuad, [&](std::size_t number) {
    const unsigned i = kQuad * static_cast<unsigned>(number);
    put(v, i, transformed(get(v, i)));
  });
  transform_quads(team, v, tile.padded(), tile.block);
}

} // namespace thinwire::lane
