#include "hash/blake3.hpp"

#include "core/cpu.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

static_assert(std::endian::native == std::endian::little);

// What is compiled for a CPU target must be inlined into the function that carries its name.
#define THINWIRE_INLINE inline __attribute__((always_inline))

namespace thinwire {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;
using ChainingValue = std::array<u32, 8>;

constexpr std::size_t kBlockBytes = 64;
constexpr u32 kChunkStart = 1, kChunkEnd = 2, kParent = 4, kRoot = 8, kKeyedHash = 16;

constexpr ChainingValue kInitial = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                    0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
constexpr int kRounds = 7;

struct Schedule {
  int word[kRounds][16]; // which message word a round takes where
};

constexpr Schedule make_schedule() {
  constexpr int kPermutation[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
  Schedule schedule{};
  for (int i = 0; i < 16; ++i)
    schedule.word[0][i] = i;
  for (int round = 1; round < kRounds; ++round)
    for (int i = 0; i < 16; ++i)
      schedule.word[round][i] = schedule.word[round - 1][kPermutation[i]];
  return schedule;
}

constexpr Schedule kSchedule = make_schedule();

// The compression function, for one input (Word is u32) or for several side by side (Word is a
// vector of u32, one lane an input).

template <int Bits, class Word> THINWIRE_INLINE void rotate_right(Word& w) {
  w = (w >> Bits) | (w << (32 - Bits));
}

template <class Word>
THINWIRE_INLINE void mix(Word& a, Word& b, Word& c, Word& d, const Word& x, const Word& y) {
  a += b + x;
  d ^= a;
  rotate_right<16>(d);
  c += d;
  b ^= c;
  rotate_right<12>(b);
  a += b + y;
  d ^= a;
  rotate_right<8>(d);
  c += d;
  b ^= c;
  rotate_right<7>(b);
}

template <int Round, class Word> THINWIRE_INLINE void mix_round(Word* v, const Word* message) {
  constexpr const int (&word)[16] = kSchedule.word[Round];
  mix(v[0], v[4], v[8], v[12], message[word[0]], message[word[1]]);
  mix(v[1], v[5], v[9], v[13], message[word[2]], message[word[3]]);
  mix(v[2], v[6], v[10], v[14], message[word[4]], message[word[5]]);
  mix(v[3], v[7], v[11], v[15], message[word[6]], message[word[7]]);
  mix(v[0], v[5], v[10], v[15], message[word[8]], message[word[9]]);
  mix(v[1], v[6], v[11], v[12], message[word[10]], message[word[11]]);
  mix(v[2], v[7], v[8], v[13], message[word[12]], message[word[13]]);
  mix(v[3], v[4], v[9], v[14], message[word[14]], message[word[15]]);
}

template <class Word> THINWIRE_INLINE void mix_all(Word* v, const Word* message) {
  [&]<int... Round>(std::integer_sequence<int, Round...>) __attribute__((always_inline)) {
    (mix_round<Round>(v, message), ...);
  }(std::make_integer_sequence<int, kRounds>());
}

// One compression that is still to be made: the last one of a tree is made differently.
struct Node {
  ChainingValue value;
  std::array<u32, 16> message;
  u64 counter;
  u32 bytes, flags;

  std::array<u32, 16> compressed() const {
    std::array<u32, 16> v;
    std::copy(value.begin(), value.end(), v.begin());
    std::copy_n(kInitial.begin(), 4, v.begin() + 8);
    v[12] = static_cast<u32>(counter);
    v[13] = static_cast<u32>(counter >> 32);
    v[14] = bytes;
    v[15] = flags;
    mix_all(v.data(), message.data());
    for (std::size_t i = 0; i < 8; ++i) {
      v[i] ^= v[i + 8];
      v[i + 8] ^= value[i];
    }
    return v;
  }

  ChainingValue chaining_value() const {
    const std::array<u32, 16> whole = compressed();
    ChainingValue half;
    std::copy_n(whole.begin(), 8, half.begin());
    return half;
  }
};

Node parent_node(const ChainingValue& left, const ChainingValue& right, const ChainingValue& key,
                 u32 flags) {
  Node node{key, {}, 0, kBlockBytes, flags | kParent};
  std::copy(left.begin(), left.end(), node.message.begin());
  std::copy(right.begin(), right.end(), node.message.begin() + 8);
  return node;
}

// The last block of a chunk; those before it are compressed into its chaining value.
Node chunk_node(std::span<const std::byte> chunk, u64 counter, const ChainingValue& key,
                u32 flags) {
  Node node{key, {}, counter, kBlockBytes, flags | kChunkStart};
  for (; chunk.size() > kBlockBytes; chunk = chunk.subspan(kBlockBytes)) {
    std::memcpy(node.message.data(), chunk.data(), kBlockBytes);
    node.value = node.chaining_value();
    node.flags = flags;
  }
  node.message.fill(0);
  std::copy_n(chunk.data(), chunk.size(), reinterpret_cast<std::byte*>(node.message.data()));
  node.bytes = static_cast<u32>(chunk.size());
  node.flags |= kChunkEnd;
  return node;
}

// Inputs of the same form that lie one after the other: whole chunks, or pairs of chaining values.
struct Inputs {
  const std::byte* data;
  std::size_t count, blocks; // inputs, blocks of each
  u64 counter;               // of the first input
  bool counts;               // each input has the counter after that of the one before
  u32 flags, first_flags, last_flags;

  std::size_t bytes() const { return blocks * kBlockBytes; } // of each
};

template <int Lanes> struct Vector {
  typedef u32 Type __attribute__((vector_size(4 * Lanes)));
};

// A square of words turned over its diagonal: rows are interleaved with those half a square on, as
// often as it takes.
template <int Lanes> THINWIRE_INLINE void transpose(typename Vector<Lanes>::Type* rows) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    constexpr int kHalf = Lanes / 2;
    for (int step = 1; step < Lanes; step *= 2) {
      typename Vector<Lanes>::Type turned[Lanes];
      for (int i = 0; i < kHalf; ++i) {
        turned[2 * i] =
            __builtin_shufflevector(rows[i], rows[i + kHalf], (I / 2 + I % 2 * Lanes)...);
        turned[2 * i + 1] =
            __builtin_shufflevector(rows[i], rows[i + kHalf], (I / 2 + I % 2 * Lanes + kHalf)...);
      }
      for (int i = 0; i < Lanes; ++i)
        rows[i] = turned[i];
    }
  }(std::make_integer_sequence<int, Lanes>());
}

// Up to Lanes inputs at once; lanes without an input of their own repeat the last one.
template <int Lanes>
THINWIRE_INLINE void hash_group(const Inputs& in, std::size_t first, const ChainingValue& key,
                                ChainingValue* out) {
  using Word = typename Vector<Lanes>::Type;
  const std::size_t count = std::min<std::size_t>(in.count - first, Lanes);
  const std::byte* lane_data[Lanes];
  Word value[16], counter_low = {}, counter_high = {};
  for (std::size_t lane = 0; lane < Lanes; ++lane) {
    lane_data[lane] = in.data + (first + (lane < count ? lane : count - 1)) * in.bytes();
    const u64 counter = in.counter + (in.counts ? first + lane : 0);
    counter_low[lane] = static_cast<u32>(counter);
    counter_high[lane] = static_cast<u32>(counter >> 32);
  }
  for (std::size_t i = 0; i < 8; ++i)
    value[i] = Word{} + key[i];

  for (std::size_t block = 0; block < in.blocks; ++block) {
    Word message[16], v[16] = {};
    for (std::size_t part = 0; part < 16; part += Lanes) {
      for (std::size_t lane = 0; lane < Lanes; ++lane)
        std::memcpy(&message[part + lane], lane_data[lane] + block * kBlockBytes + 4 * part,
                    sizeof(Word));
      transpose<Lanes>(message + part);
    }
    for (std::size_t i = 0; i < 8; ++i)
      v[i] = value[i];
    for (std::size_t i = 0; i < 4; ++i)
      v[8 + i] = Word{} + kInitial[i];
    v[12] = counter_low;
    v[13] = counter_high;
    v[14] = Word{} + static_cast<u32>(kBlockBytes);
    v[15] = Word{} + (in.flags | (block == 0 ? in.first_flags : 0) |
                      (block + 1 == in.blocks ? in.last_flags : 0));
    mix_all(v, message);
    for (std::size_t i = 0; i < 8; ++i)
      value[i] = v[i] ^ v[i + 8];
  }
  for (std::size_t lane = 0; lane < count; ++lane)
    for (std::size_t i = 0; i < 8; ++i)
      out[first + lane][i] = value[i][lane];
}

// `out` may be where the inputs lie: a group is read before it is written.
template <int Lanes>
THINWIRE_INLINE void hash_groups(const Inputs& in, const ChainingValue& key, ChainingValue* out) {
  for (std::size_t first = 0; first < in.count; first += Lanes)
    hash_group<Lanes>(in, first, key, out);
}

void hash_baseline(const Inputs& in, const ChainingValue& key, ChainingValue* out) {
  hash_groups<4>(in, key, out); // SSE2 and NEON are part of their architectures
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void hash_avx2(const Inputs& in, const ChainingValue& key,
                                               ChainingValue* out) {
  hash_groups<8>(in, key, out);
}

__attribute__((target("avx512f"))) void hash_avx512(const Inputs& in, const ChainingValue& key,
                                                    ChainingValue* out) {
  hash_groups<16>(in, key, out);
}
#endif

void hash_inputs(const Inputs& in, const ChainingValue& key, ChainingValue* out) {
#if defined(__x86_64__)
  if (active_target() == Target::avx512)
    return hash_avx512(in, key, out);
  if (active_target() == Target::avx2)
    return hash_avx2(in, key, out);
#endif
  hash_baseline(in, key, out);
}

} // namespace

Blake3::Blake3() : key_(kInitial), flags_(0) {}

Blake3::Blake3(const Blake3Key& key)
    : key_(std::bit_cast<ChainingValue>(key)), flags_(kKeyedHash) {}

Blake3& Blake3::update(std::span<const std::byte> data) {
  while (!data.empty()) {
    if (tail_bytes_ == kChunk) { // more follows, so it is not the root
      add_chunks(tail_.data(), 1);
      tail_bytes_ = 0;
    }
    if (tail_bytes_ == 0 && data.size() > kChunk) {
      const std::size_t to_boundary = kBatch - static_cast<std::size_t>(chunks_ % kBatch);
      const std::size_t count = std::min((data.size() - 1) / kChunk, to_boundary);
      add_chunks(data.data(), count);
      data = data.subspan(count * kChunk);
      continue;
    }
    const std::size_t taken = std::min(kChunk - tail_bytes_, data.size());
    std::memcpy(tail_.data() + tail_bytes_, data.data(), taken);
    tail_bytes_ += taken;
    data = data.subspan(taken);
  }
  return *this;
}

// A batch is a whole subtree, and its parents too are hashed side by side.
void Blake3::add_chunks(const std::byte* data, std::size_t count) {
  std::array<ChainingValue, kBatch> values;
  hash_inputs({data, count, kChunk / kBlockBytes, chunks_, true, flags_, kChunkStart, kChunkEnd},
              key_, values.data());
  if (count < kBatch) {
    for (std::size_t i = 0; i < count; ++i)
      add_subtree(values[i], 1);
    return;
  }
  for (std::size_t pairs = kBatch / 2; pairs > 0; pairs /= 2)
    hash_inputs({reinterpret_cast<const std::byte*>(values.data()), pairs, 1, 0, false,
                 flags_ | kParent, 0, 0},
                key_, values.data());
  add_subtree(values[0], kBatch);
}

// Whole subtrees of the same size become one, like the carries of an addition.
void Blake3::add_subtree(ChainingValue value, std::size_t chunks) {
  chunks_ += chunks;
  for (u64 subtrees = chunks_ / chunks; subtrees % 2 == 0; subtrees /= 2)
    value = parent_node(stack_[--depth_], value, key_, flags_).chaining_value();
  stack_[depth_++] = value;
}

void Blake3::finish(std::span<std::byte> out) const {
  Node root = chunk_node({tail_.data(), tail_bytes_}, chunks_, key_, flags_);
  for (std::size_t level = depth_; level-- > 0;)
    root = parent_node(stack_[level], root.chaining_value(), key_, flags_);
  root.flags |= kRoot;
  root.counter = 0;
  for (; !out.empty(); ++root.counter) {
    const std::array<u32, 16> words = root.compressed();
    const std::size_t bytes = std::min(out.size(), sizeof words);
    std::memcpy(out.data(), words.data(), bytes);
    out = out.subspan(bytes);
  }
}

Blake3Digest blake3(std::span<const std::byte> data) {
  Blake3Digest digest;
  Blake3().update(data).finish(digest);
  return digest;
}

Blake3Digest blake3_keyed(const Blake3Key& key, std::span<const std::byte> data) {
  Blake3Digest digest;
  Blake3(key).update(data).finish(digest);
  return digest;
}

} // namespace thinwire
