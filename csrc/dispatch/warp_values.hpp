// Values of tensors of any dtype: what encoders read, what becomes of residuals, what decoders
// write.
//
// They move by quads: a lane has four neighbours, its warp 128. So every access of a warp is to
// whole cache lines, 16 bytes a lane of fp32 and 8 of fp16 and bf16. (With 16 bytes a lane of
// those, the fp32 residual beside them would take its lines in two halves.) Ragged ends and starts
// that are not aligned to a quad move value by value.
#pragma once

#include "dispatch/kernel_table.hpp"
#include "dispatch/warp.hpp"

namespace thinwire::lane {

inline constexpr unsigned kQuad = 4;

struct alignas(16) Quad {
  F v[kQuad];
};

template <class Fn> THINWIRE_TEAM Quad quad_of(Fn f) { return {{f(0), f(1), f(2), f(3)}}; }

THINWIRE_TEAM Quad operator+(Quad a, Quad b) {
  return quad_of([&](unsigned j) { return a.v[j] + b.v[j]; });
}
THINWIRE_TEAM Quad operator-(Quad a, Quad b) {
  return quad_of([&](unsigned j) { return a.v[j] - b.v[j]; });
}

// K quads of a lane out of K * 128 neighbours: those from kQuad * lane on, and so 128 further.
template <unsigned K> struct Quads {
  static constexpr std::size_t kSpan = std::size_t{K} * kQuad * kWarp;
  Quad q[K];

  static THINWIRE_TEAM unsigned place(unsigned k, unsigned lane) {
    return kQuad * (k * kWarp + lane);
  }
};

// Of whatever lies in memory.
template <unsigned N> struct [[gnu::may_alias]] alignas(4 * N) Words {
  std::uint32_t w[N];
};

// By explicit instructions for global memory, past the first-level cache: nothing here is read
// twice. On the host, sanitizers see whether these accesses are aligned.
template <unsigned N> THINWIRE_TEAM Words<N> read_words(const void* from) {
#if defined(__CUDA_ARCH__)
  if constexpr (N == 4)
    return __builtin_bit_cast(Words<4>, __ldcg(static_cast<const uint4*>(from)));
  else if constexpr (N == 2)
    return __builtin_bit_cast(Words<2>, __ldcg(static_cast<const uint2*>(from)));
  else
    return {__ldcg(static_cast<const unsigned*>(from))};
#else
  return *static_cast<const Words<N>*>(from);
#endif
}

template <unsigned N> THINWIRE_TEAM void write_words(void* to, Words<N> words) {
#if defined(__CUDA_ARCH__)
  if constexpr (N == 4)
    __stcg(static_cast<uint4*>(to), __builtin_bit_cast(uint4, words));
  else if constexpr (N == 2)
    __stcg(static_cast<uint2*>(to), __builtin_bit_cast(uint2, words));
  else
    __stcg(static_cast<unsigned*>(to), words.w[0]);
#else
  *static_cast<Words<N>*>(to) = words;
#endif
}

template <DType D> THINWIRE_TEAM F widened(std::uint32_t bits) {
  if constexpr (D == DType::fp32)
    return {bits_float(bits)};
  const auto half = static_cast<std::uint16_t>(bits);
  return {D == DType::fp16 ? from_fp16(half) : from_bf16(half)};
}

// Rounds to nearest even; a NaN of 16 bits is canonical.
template <DType D> THINWIRE_TEAM std::uint32_t narrowed(F v) {
  if constexpr (D == DType::fp32)
    return bits(v).v;
  return D == DType::fp16 ? to_fp16(v.v) : to_bf16(v.v);
}

// f.operator()<D>() for a dtype.
template <class Fn> THINWIRE_TEAM auto with_dtype(DType dtype, Fn f) {
  if (dtype == DType::fp32)
    return f.template operator()<DType::fp32>();
  if (dtype == DType::fp16)
    return f.template operator()<DType::fp16>();
  return f.template operator()<DType::bf16>();
}

template <DType D> THINWIRE_TEAM F load(const void* base, std::size_t i) {
  if constexpr (D == DType::fp32)
    return widened<D>(static_cast<const std::uint32_t*>(base)[i]);
  else
    return widened<D>(static_cast<const std::uint16_t*>(base)[i]);
}

THINWIRE_TEAM F load(const void* base, DType dtype, std::size_t i) {
  return with_dtype(dtype, [=]<DType D>() { return load<D>(base, i); });
}

template <DType D> THINWIRE_TEAM void store(void* base, std::size_t i, F v) {
  if constexpr (D == DType::fp32)
    static_cast<std::uint32_t*>(base)[i] = narrowed<D>(v);
  else
    static_cast<std::uint16_t*>(base)[i] = static_cast<std::uint16_t>(narrowed<D>(v));
}

THINWIRE_TEAM void store(void* base, DType dtype, std::size_t i, F v) {
  with_dtype(dtype, [=]<DType D>() { store<D>(base, i, v); });
}

// A value as it comes back from a tensor of a dtype.
template <DType D> THINWIRE_TEAM F stored(F v) { return widened<D>(narrowed<D>(v)); }

// The quad from value i on, which must lie aligned and whole in the tensor.
template <DType D> THINWIRE_TEAM Quad read_quad(const void* base, std::size_t i) {
  const auto* from = static_cast<const std::uint8_t*>(base) + i * element_bytes(D);
  if constexpr (D == DType::fp32) {
    const auto words = read_words<4>(from);
    return quad_of([&](unsigned j) { return widened<D>(words.w[j]); });
  } else {
    const auto words = read_words<2>(from);
    return quad_of([&](unsigned j) { return widened<D>(words.w[j / 2] >> 16 * (j % 2)); });
  }
}

template <DType D> THINWIRE_TEAM void write_quad(void* base, std::size_t i, Quad q) {
  auto* to = static_cast<std::uint8_t*>(base) + i * element_bytes(D);
  const auto bits = [&](unsigned j) { return narrowed<D>(q.v[j]); };
  if constexpr (D == DType::fp32)
    write_words<4>(to, {{bits(0), bits(1), bits(2), bits(3)}});
  else
    write_words<2>(to, {{bits(0) | bits(1) << 16, bits(2) | bits(3) << 16}});
}

THINWIRE_TEAM bool is_aligned(const void* base, DType dtype) {
  return reinterpret_cast<std::uintptr_t>(base) % (kQuad * element_bytes(dtype)) == 0;
}

// The quad from value i on, zeros from value `end` on; one that is not `kWhole` may be ragged, or
// not aligned.
template <DType D, bool kWhole>
THINWIRE_TEAM Quad read(const void* base, std::size_t i, std::size_t end) {
  if (kWhole || (i + kQuad <= end && is_aligned(base, D)))
    return read_quad<D>(base, i);
  return quad_of([=](unsigned j) { return i + j < end ? load(base, D, i + j) : F::splat(0.0f); });
}

// Nothing is written from value `end` on.
template <DType D, bool kWhole>
THINWIRE_TEAM void write(void* base, std::size_t i, std::size_t end, Quad q) {
  if (kWhole || (i + kQuad <= end && is_aligned(base, D)))
    return write_quad<D>(base, i, q);
  THINWIRE_UNROLL
  for (unsigned j = 0; j < kQuad; ++j)
    if (i + j < end)
      store(base, D, i + j, q.v[j]);
}

// A lane's quads of those from value `at` on, all asked for before the first is waited for.
template <unsigned K, DType D, bool kWhole>
THINWIRE_TEAM Quads<K> read_quads(const void* base, std::size_t at, std::size_t end,
                                  unsigned lane) {
  Quads<K> found;
  THINWIRE_UNROLL
  for (unsigned k = 0; k < K; ++k)
    found.q[k] = read<D, kWhole>(base, at + Quads<K>::place(k, lane), end);
  return found;
}

// Goes through the values from `at` up to `past`, of which those from `end` on do not exist:
// f.operator()<K, true>(at) for K * 128 of them that are whole and aligned quads, and otherwise
// f.operator()<1, false>(at) for 128.
template <unsigned K, class Fn>
THINWIRE_TEAM void by_quads(std::size_t at, std::size_t end, std::size_t past, bool aligned, Fn f) {
  while (at < past) {
    const bool whole = aligned && at + Quads<K>::kSpan <= end;
    if (whole)
      f.template operator()<K, true>(at);
    else
      f.template operator()<1, false>(at);
    at += whole ? Quads<K>::kSpan : Quads<1>::kSpan;
  }
}

// y[i], the encoder's input.
THINWIRE_TEAM F value(const EncodeArgs& a, std::size_t i) {
  const F v = load(a.x, a.dtype, i) * F::splat(a.scale);
  return a.residual_in && !a.held ? v + load(a.residual_in, a.residual_dtype, i) : v;
}

// with_dtype() for a residual.
template <class Fn> THINWIRE_TEAM auto with_residual_dtype(DType dtype, Fn f) {
  if (dtype == DType::fp32)
    return f.template operator()<DType::fp32>();
  return f.template operator()<DType::bf16>();
}

// A lane's quads of y; +0 from value `end` on. The residual is asked for first: fp32 needs no
// conversion, so that x is asked for before it arrives.
template <unsigned K, bool kWhole>
THINWIRE_TEAM Quads<K> values(const EncodeArgs& a, std::size_t at, std::size_t end, unsigned lane) {
  const bool added = a.residual_in && !a.held;
  Quads<K> residual = {};
  if (added)
    residual = with_residual_dtype(a.residual_dtype, [&]<DType D>() {
      return read_quads<K, D, kWhole>(a.residual_in, at, end, lane);
    });
  Quads<K> y =
      with_dtype(a.dtype, [&]<DType D>() { return read_quads<K, D, kWhole>(a.x, at, end, lane); });
  THINWIRE_UNROLL
  for (unsigned k = 0; k < K; ++k) {
    const std::size_t i = at + Quads<K>::place(k, lane);
    y.q[k] = quad_of([&](unsigned j) {
      const F v = y.q[k].v[j] * F::splat(a.scale);
      return kWhole || i + j < end ? (added ? v + residual.q[k].v[j] : v) : F::splat(0.0f);
    });
  }
  return y;
}

// f(i, quad) for the quads of y from `at` up to `past`; +0 from value `end` on. K quads of a lane
// are asked for at a time.
template <unsigned K, class Fn>
THINWIRE_TEAM void each_quad(const EncodeArgs& a, std::size_t at, std::size_t end, std::size_t past,
                             unsigned lane, Fn f) {
  const bool aligned = is_aligned(a.x, a.dtype) && is_aligned(a.residual_in, a.residual_dtype);
  by_quads<K>(at, end, past, aligned, [&]<unsigned N, bool kWhole>(std::size_t from) {
    const Quads<N> y = values<N, kWhole>(a, from, end, lane);
    THINWIRE_UNROLL
    for (unsigned k = 0; k < N; ++k)
      if (from + y.place(k, lane) < past)
        f(from + y.place(k, lane), y.q[k]);
  });
}

// Stores `error`, which is y - decoded or zero, as the residual of the quad from value i on. It may
// replace what was read there.
THINWIRE_TEAM void keep(const EncodeArgs& a, std::size_t i, Quad error) {
  if (!a.residual_out)
    return;
  with_residual_dtype(a.residual_dtype, [&]<DType D>() {
    if (a.residual_in && a.held) {
      const Quad before = read<D, false>(a.residual_in, i, a.n);
      error = quad_of([&](unsigned j) { return canonical(before.v[j] + error.v[j]); });
    }
    write<D, false>(a.residual_out, i, a.n, error);
  });
}

// Payloads of one layout, as distances from the first.
inline constexpr unsigned kMostFrames = 32;

struct Frames {
  std::ptrdiff_t from_first[kMostFrames];
  unsigned number;

  THINWIRE_HD unsigned count() const { return number; }
  THINWIRE_TEAM const std::uint8_t* payload(const std::uint8_t* first, unsigned frame) const {
    return first + from_first[frame];
  }
};

// The first alone.
struct OneFrame {
  static THINWIRE_HD unsigned count() { return 1; }
  static THINWIRE_TEAM const std::uint8_t* payload(const std::uint8_t* first, unsigned) {
    return first;
  }
};

// What becomes of a quad of `out` by what frame number `frame` decodes to, which is stored or
// added. The bits are those of a sum that was stored to `out`, and read again.
template <DType D>
THINWIRE_TEAM Quad sum_after(const DecodeArgs& a, unsigned frame, Quad before, Quad decoded) {
  const bool added = a.accumulate || frame != 0;
  return quad_of(
      [&](unsigned j) { return stored<D>(added ? before.v[j] + decoded.v[j] : decoded.v[j]); });
}

// Writes the quad from value i on. A NaN stays one: to make it canonical at the end is enough.
template <DType D, bool kWhole>
THINWIRE_TEAM void write_sum(const DecodeArgs& a, std::size_t i, std::size_t end, Quad sum) {
  write<D, kWhole>(a.out, i, end, quad_of([&](unsigned j) { return canonical(sum.v[j]); }));
}

// Decodes a lane's quads from `at` up to `end`: decoded.operator()<K, kWhole>(at) makes a function
// that makes K quads of a payload.
template <unsigned K, class S, class Fn>
THINWIRE_TEAM void deliver(const DecodeArgs& a, const S& frames, std::size_t at, std::size_t end,
                           unsigned lane, Fn decoded) {
  // Payloads of frames are aligned, the values of a stand-in as they come.
  const bool aligned = is_aligned(a.out, a.dtype) && is_aligned(a.payload, DType::fp32);
  by_quads<K>(at, end, end, aligned, [&]<unsigned N, bool kWhole>(std::size_t from) {
    const auto decode = decoded.template operator()<N, kWhole>(from);
    with_dtype(a.dtype, [&]<DType D>() {
      Quads<N> sum = {};
      if (a.accumulate)
        sum = read_quads<N, D, kWhole>(a.out, from, end, lane);
      for (unsigned f = 0; f < frames.count(); ++f) {
        const Quads<N> next = decode(frames.payload(a.payload, f));
        THINWIRE_UNROLL
        for (unsigned k = 0; k < N; ++k)
          sum.q[k] = sum_after<D>(a, f, sum.q[k], next.q[k]);
      }
      THINWIRE_UNROLL
      for (unsigned k = 0; k < N; ++k)
        write_sum<D, kWhole>(a, from + sum.place(k, lane), end, sum.q[k]);
    });
  });
}

template <class Team>
THINWIRE_TEAM void fill_zero(const Team& team, std::uint8_t* from, std::uint8_t* to) {
  each(team, static_cast<std::size_t>(to - from), [=](std::size_t i) { from[i] = 0; });
}

} // namespace thinwire::lane
