#include "hash/blake3_lanes.hpp"

#include "core/cpu.hpp"
#include "core/inline.hpp"

#include <algorithm>
#include <cstring>

namespace thinwire::blake3_detail {
namespace {

template <int Lanes> struct Vector {
  typedef u32 Type __attribute__((vector_size(4 * Lanes)));
  typedef std::uint8_t Bytes __attribute__((vector_size(4 * Lanes)));
};

// AVX2 cannot rotate, but move bytes: half of the rotations in one instruction.
struct ByBytes {
  template <int Bits, class Word> static THINWIRE_INLINE void rotate_right(Word& w) {
    if constexpr (Bits % 8 == 0)
      move_bytes<Bits / 8>(w, std::make_integer_sequence<int, sizeof(Word)>());
    else
      ByShifts::rotate_right<Bits>(w);
  }

private:
  template <int Bytes, class Word, int... I>
  static THINWIRE_INLINE void move_bytes(Word& w, std::integer_sequence<int, I...>) {
    const auto bytes = (typename Vector<sizeof(Word) / 4>::Bytes) w;
    w = (Word)__builtin_shufflevector(bytes, bytes, (I / 4 * 4 + (I + Bytes) % 4)...);
  }
};

// In each quarter of four words: rows are interleaved with those two on, twice. That turns squares
// of four words over their diagonals.
template <int Lanes> THINWIRE_INLINE void transpose_squares(typename Vector<Lanes>::Type* rows) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    for (int step = 0; step < 2; ++step) {
      typename Vector<Lanes>::Type turned[4];
      for (int i = 0; i < 2; ++i) {
        turned[2 * i] = __builtin_shufflevector(rows[i], rows[i + 2],
                                                (I / 4 * 4 + I % 4 / 2 + I % 2 * Lanes)...);
        turned[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 2],
                                                    (I / 4 * 4 + 2 + I % 4 / 2 + I % 2 * Lanes)...);
      }
      for (int i = 0; i < 4; ++i)
        rows[i] = turned[i];
    }
  }(std::make_integer_sequence<int, Lanes>());
}

// Four words from each of every fourth place.
template <int Lanes>
THINWIRE_INLINE void load_quads(const std::byte* const* from, std::size_t offset,
                                typename Vector<Lanes>::Type& row) {
  if constexpr (Lanes == 4) {
    std::memcpy(&row, *from + offset, sizeof row);
  } else {
    typename Vector<Lanes / 2>::Type low, high;
    load_quads<Lanes / 2>(from, offset, low);
    load_quads<Lanes / 2>(from + Lanes / 2, offset, high);
    [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
      row = __builtin_shufflevector(low, high, I...);
    }(std::make_integer_sequence<int, Lanes>());
  }
}

// What differs between the lanes of a group. Lanes without an input of their own repeat the last
// one.
template <int Lanes> struct Group {
  using Word = typename Vector<Lanes>::Type;

  const std::byte *data[Lanes], *last_block[Lanes], *next_data[Lanes];
  alignas(64) std::byte padded[Lanes][kBlockBytes];
  Word blocks, last_bytes, flags, first_flags, last_flags, counter_low, counter_high;
  u32 fewest_blocks, most_blocks;

  // The first inputs of those that are left.
  THINWIRE_INLINE explicit Group(std::span<const LaneInput> left) {
    Word form;
    u32 fewest_bytes = kChunkBytes, most_bytes = 0;
    for (std::size_t lane = 0; lane < Lanes; ++lane) {
      const LaneInput& input = left[lane < left.size() ? lane : left.size() - 1];
      const u32 bytes = input.bytes();
      form[lane] = input.form;
      counter_low[lane] = static_cast<u32>(input.counter);
      counter_high[lane] = static_cast<u32>(input.counter >> 32);
      fewest_bytes = bytes < fewest_bytes ? bytes : fewest_bytes;
      most_bytes = bytes > most_bytes ? bytes : most_bytes;
      data[lane] = input.data;
      last_block[lane] = find_last_block(input.data, bytes, padded[lane]);
      next_data[lane] = left[lane + Lanes < left.size() ? lane + Lanes : left.size() - 1].data;
    }
    fewest_blocks = (fewest_bytes - 1) / kBlockBytes + 1;
    most_blocks = (most_bytes - 1) / kBlockBytes + 1;
    blocks = ((form & 0xffff) - 1) / kBlockBytes + 1;
    last_bytes = (form & 0xffff) - (blocks - 1) * kBlockBytes;
    flags = form >> 16 & 0xff;
    first_flags = (Word)((flags & kParent) == 0) & kChunkStart;
    last_flags = form >> 24;
  }

  static THINWIRE_INLINE const std::byte* find_last_block(const std::byte* data, u32 bytes,
                                                          std::byte* padded) {
    const std::byte* last = data + (bytes - 1) / kBlockBytes * kBlockBytes;
    const u32 unpadded = bytes % kBlockBytes;
    if (unpadded == 0)
      return last;
    std::memset(padded, 0, kBlockBytes);
    std::memcpy(padded, last, unpadded);
    return padded;
  }

  // A lane that has ended goes on with its last block, to no effect.
  THINWIRE_INLINE void load_message(u32 block, Word* message) const {
    const std::byte *chosen[Lanes], *const *from = data;
    std::size_t offset = block * kBlockBytes;
    if (block + 1 >= fewest_blocks) {
      for (int lane = 0; lane < Lanes; ++lane)
        chosen[lane] = block + 1 < blocks[lane] ? data[lane] + offset : last_block[lane];
      from = chosen;
      offset = 0;
    }
    for (std::size_t part = 0; part < 16; part += 4) {
      for (std::size_t i = 0; i < 4; ++i)
        load_quads<Lanes>(from + i, offset + 4 * part, message[part + i]);
      transpose_squares<Lanes>(message + part);
    }
  }

  // Processors do not foresee that many short streams.
  THINWIRE_INLINE void prefetch_next_group(u32 block) const {
    for (int lane = 0; lane < Lanes; ++lane)
      __builtin_prefetch(next_data[lane] + block * kBlockBytes);
  }
};

// The state before the rounds.
template <int Lanes>
THINWIRE_INLINE void start(const Group<Lanes>& group, u32 block,
                           const typename Vector<Lanes>::Type* value,
                           typename Vector<Lanes>::Type* v) {
  using Word = typename Vector<Lanes>::Type;
  const auto is_last = (Word)(group.blocks == block + 1);
  for (std::size_t i = 0; i < 8; ++i)
    v[i] = value[i];
  for (std::size_t i = 0; i < 4; ++i)
    v[8 + i] = Word{} + kInitial[i];
  v[12] = group.counter_low;
  v[13] = group.counter_high;
  v[14] = kBlockBytes - (is_last & (kBlockBytes - group.last_bytes));
  v[15] = group.flags | (is_last & group.last_flags);
  if (block == 0)
    v[15] |= group.first_flags;
}

template <int Lanes, class Rotate>
THINWIRE_INLINE void hash_group(std::span<const LaneInput> left, const ChainingValue& key) {
  using Word = typename Vector<Lanes>::Type;
  const Group<Lanes> group(left);
  Word value[8];
  for (std::size_t i = 0; i < 8; ++i)
    value[i] = Word{} + key[i];
  for (u32 block = 0; block < group.most_blocks; ++block) {
    Word message[16], v[16];
    group.load_message(block, message);
    group.prefetch_next_group(block);
    start(group, block, value, v);
    mix_all<Rotate>(v, message);
    if (block < group.fewest_blocks) {
      for (std::size_t i = 0; i < 8; ++i)
        value[i] = v[i] ^ v[i + 8];
    } else {
      const auto goes_on = (Word)(group.blocks > block);
      for (std::size_t i = 0; i < 8; ++i)
        value[i] = (goes_on & (v[i] ^ v[i + 8])) | (~goes_on & value[i]);
    }
  }
  transpose_squares<Lanes>(value);
  transpose_squares<Lanes>(value + 4);
  for (std::size_t lane = 0; lane < Lanes && lane < left.size(); ++lane)
    for (std::size_t half = 0; half < 2; ++half)
      std::memcpy(left[lane].out + 16 * half,
                  reinterpret_cast<const std::byte*>(&value[4 * half + lane % 4]) + lane / 4 * 16,
                  16);
}

template <int Lanes, class Rotate>
THINWIRE_INLINE void hash_groups(std::span<const LaneInput> inputs, const ChainingValue& key) {
  for (std::size_t first = 0; first < inputs.size(); first += Lanes)
    hash_group<Lanes, Rotate>(inputs.subspan(first), key);
}

void hash_baseline(std::span<const LaneInput> inputs, const ChainingValue& key) {
  hash_groups<4, ByShifts>(inputs, key); // SSE2 and NEON are part of their architectures
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void hash_avx2(std::span<const LaneInput> inputs,
                                               const ChainingValue& key) {
  hash_groups<8, ByBytes>(inputs, key);
}

__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq"))) void
hash_avx512(std::span<const LaneInput> inputs, const ChainingValue& key) {
  hash_groups<16, ByShifts>(inputs, key);
}
#endif

} // namespace

void hash_inputs(std::span<const LaneInput> inputs, const ChainingValue& key) {
#if defined(__x86_64__)
  if (active_target() == Target::avx512)
    return hash_avx512(inputs, key);
  if (active_target() == Target::avx2)
    return hash_avx2(inputs, key);
#endif
  hash_baseline(inputs, key);
}

} // namespace thinwire::blake3_detail
