// Moving values between tensors of any dtype and tiles of fp32 that lie in the first-level cache.

constexpr std::size_t kTile = 256; // values of a tile, unless a block is larger
constexpr std::size_t kLanes = 16;

constexpr std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }
constexpr std::size_t whole_blocks(std::size_t n, std::size_t block) {
  return ceil_div(n, block) * block;
}

template <DType D> const std::uint8_t* element(const void* base, std::size_t index) {
  return static_cast<const std::uint8_t*>(base) + index * element_bytes(D);
}
template <DType D> std::uint8_t* element(void* base, std::size_t index) {
  return static_cast<std::uint8_t*>(base) + index * element_bytes(D);
}

// Fewer than sixteen elements; the other lanes are +0.
template <DType D> F load_some(const void* p, std::size_t count) {
  alignas(64) std::uint8_t padded[64] = {};
  __builtin_memcpy(padded, p, count * element_bytes(D));
  return load<D>(padded);
}
template <DType D> void store_some(void* p, F a, std::size_t count) {
  alignas(64) std::uint8_t padded[64];
  store<D>(padded, a);
  __builtin_memcpy(p, padded, count * element_bytes(D));
}

// Where y comes from.
struct Source {
  const void* x;
  DType dtype;
  float scale;
  const void* residual; // null: none
  DType residual_dtype;
};

enum class Residual { none, fp32, bf16 };

template <Residual R>
F plus_residual(F v, const void* residual, std::size_t index, std::size_t count) {
  if constexpr (R == Residual::none)
    return v;
  constexpr DType D = R == Residual::bf16 ? DType::bf16 : DType::fp32;
  const void* p = element<D>(residual, index);
  return v + (count == kLanes ? load<D>(p) : load_some<D>(p, count));
}

template <DType X, Residual R>
void fill_values(const Source& source, std::size_t at, std::size_t count, float* y) {
  const F scale = F::splat(source.scale);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const F v = load<X>(element<X>(source.x, at + i)) * scale;
    store<DType::fp32>(y + i, plus_residual<R>(v, source.residual, at + i, kLanes));
  }
  if (i < count) {
    const F v = load_some<X>(element<X>(source.x, at + i), count - i) * scale;
    store_some<DType::fp32>(y + i, plus_residual<R>(v, source.residual, at + i, count - i),
                            count - i);
  }
}

template <DType X>
void fill_values(const Source& source, std::size_t at, std::size_t count, float* y) {
  if (!source.residual)
    fill_values<X, Residual::none>(source, at, count, y);
  else if (source.residual_dtype == DType::fp32)
    fill_values<X, Residual::fp32>(source, at, count, y);
  else
    fill_values<X, Residual::bf16>(source, at, count, y);
}

void fill_values(const Source& source, std::size_t at, std::size_t count, float* y) {
  if (source.dtype == DType::fp32)
    fill_values<DType::fp32>(source, at, count, y);
  else if (source.dtype == DType::fp16)
    fill_values<DType::fp16>(source, at, count, y);
  else
    fill_values<DType::bf16>(source, at, count, y);
}

// Asks for the part of an array that is a few tiles ahead. A tile is coded from the first-level
// cache, which leaves the memory idle meanwhile, and hardware prefetchers stop at every page.
constexpr std::size_t kAheadBytes = 8192, kCacheLine = 64;

void prefetch_ahead(const void* base, std::size_t at, std::size_t count, DType dtype) {
  const auto* p = static_cast<const std::uint8_t*>(base) + at * element_bytes(dtype) + kAheadBytes;
  for (std::size_t i = 0; i < count * element_bytes(dtype); i += kCacheLine)
    __builtin_prefetch(p + i);
}

// y[at .. at+count) followed by +0 up to `padded` values: in place where x already is that, else in
// `tile`.
const float* values(const Source& source, std::size_t at, std::size_t count, std::size_t padded,
                    float* tile) {
  prefetch_ahead(source.x, at, count, source.dtype);
  if (source.residual)
    prefetch_ahead(source.residual, at, count, source.residual_dtype);
  if (source.dtype == DType::fp32 && source.scale == 1.0f && !source.residual && count == padded)
    return static_cast<const float*>(source.x) + at;
  fill_values(source, at, count, tile);
  for (std::size_t i = count; i < padded; ++i)
    tile[i] = 0.0f;
  return tile;
}

// Where y - decoded goes.
struct Sink {
  void* out; // null: nowhere
  DType dtype;
  const void* add; // a held segment's residual, in the same dtype; else null
};

// Memory for `count` residuals starting at `at`, `padded` of which get written: the sink itself if
// it can take them as they come, else `tile`, which finish_residual() then converts. Null without a
// sink.
float* residual_tile(const Sink& sink, std::size_t at, std::size_t count, std::size_t padded,
                     float* tile) {
  if (!sink.out)
    return nullptr;
  const bool direct = sink.dtype == DType::fp32 && !sink.add && count == padded;
  return direct ? static_cast<float*>(sink.out) + at : tile;
}

template <DType D>
void write_residual(const Sink& sink, std::size_t at, std::size_t count, const float* tile) {
  for (std::size_t i = 0; i < count; i += kLanes) {
    const std::size_t lanes = smaller(count - i, kLanes);
    F r = load<DType::fp32>(tile + i);
    if (sink.add)
      r = load_some<D>(element<D>(sink.add, at + i), lanes) + r;
    store_some<D>(element<D>(sink.out, at + i), r, lanes);
  }
}

void finish_residual(const Sink& sink, std::size_t at, std::size_t count, const float* residual,
                     const float* tile) {
  if (residual != tile)
    return;
  if (sink.dtype == DType::fp32)
    write_residual<DType::fp32>(sink, at, count, tile);
  else
    write_residual<DType::bf16>(sink, at, count, tile);
}

Source source_of(const EncodeArgs& a) {
  return {a.x, a.dtype, a.scale, a.held ? nullptr : a.residual_in, a.residual_dtype};
}
Sink sink_of(const EncodeArgs& a) {
  return {a.residual_out, a.residual_dtype, a.held ? a.residual_in : nullptr};
}

// Stores or adds decoded values to a tensor of any dtype.
template <DType D, bool kAccumulate> void put(void* p, F decoded) {
  if constexpr (kAccumulate)
    decoded = canonical(load<D>(p) + decoded);
  store<D>(p, decoded);
}

template <DType D, bool kAccumulate>
void deliver(void* out, std::size_t at, std::size_t count, const float* tile) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    put<D, kAccumulate>(element<D>(out, at + i), load<DType::fp32>(tile + i));
  if (i < count) {
    alignas(64) std::uint8_t padded[64] = {};
    __builtin_memcpy(padded, element<D>(out, at + i), (count - i) * element_bytes(D));
    put<D, kAccumulate>(padded, load_some<DType::fp32>(tile + i, count - i));
    __builtin_memcpy(element<D>(out, at + i), padded, (count - i) * element_bytes(D));
  }
}

template <bool kAccumulate>
void deliver(const DecodeArgs& a, std::size_t at, std::size_t count, const float* tile) {
  if (a.dtype == DType::fp32)
    deliver<DType::fp32, kAccumulate>(a.out, at, count, tile);
  else if (a.dtype == DType::fp16)
    deliver<DType::fp16, kAccumulate>(a.out, at, count, tile);
  else
    deliver<DType::bf16, kAccumulate>(a.out, at, count, tile);
}

void fill_zero(std::uint8_t* from, std::uint8_t* to) {
  __builtin_memset(from, 0, static_cast<std::size_t>(to - from));
}

void fill_nan(float* tile, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    tile[i] = bits_float(kFp32Nan);
}

std::uint32_t greatest_magnitude(const float* y, std::size_t count) {
  I most = I::splat(0);
  for (std::size_t i = 0; i < count; i += kLanes)
    most = max_int(most, bits(load<DType::fp32>(y + i)) & I::splat(kMagnitudeMask));
  return greatest(most);
}

// sum16(|v|) of conventions.md; `count` a multiple of sixteen, padded with zeros.
float magnitude_sum(const float* v, std::size_t count) {
  F sum = F::splat(0.0f);
  for (std::size_t i = 0; i < count; i += kLanes)
    sum = sum + from_bits(bits(load<DType::fp32>(v + i)) & I::splat(kMagnitudeMask));
  return tree_sum(sum);
}

void fold(const FoldArgs& a) {
  fill_values({a.x, a.dtype, a.scale, a.residual, a.residual_dtype}, 0, a.n, a.out);
}

template <DType D> bool is_zero(const void* x, std::size_t n) {
  I any = I::splat(0);
  std::size_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (std::size_t k = 0; k < 4; ++k)
      any = any | bits(load<D>(element<D>(x, i + k * kLanes)));
    if (greatest(any & I::splat(kMagnitudeMask)) != 0)
      return false;
  }
  for (; i < n; i += kLanes)
    any = any | bits(load_some<D>(element<D>(x, i), smaller(n - i, kLanes)));
  return greatest(any & I::splat(kMagnitudeMask)) == 0;
}

bool is_zero(const void* x, std::size_t n, DType dtype) {
  return dtype == DType::fp32   ? is_zero<DType::fp32>(x, n)
         : dtype == DType::fp16 ? is_zero<DType::fp16>(x, n)
                                : is_zero<DType::bf16>(x, n);
}

template <DType D> std::size_t count_nonfinite(const void* x, std::size_t n) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; i += kLanes) {
    const I magnitude =
        bits(load_some<D>(element<D>(x, i), smaller(n - i, kLanes))) & I::splat(kMagnitudeMask);
    count += static_cast<std::size_t>(__builtin_popcount(at_least(magnitude, kInfinityBits)));
  }
  return count;
}

std::size_t count_nonfinite(const void* x, std::size_t n, DType dtype) {
  return dtype == DType::fp32   ? count_nonfinite<DType::fp32>(x, n)
         : dtype == DType::fp16 ? count_nonfinite<DType::fp16>(x, n)
                                : count_nonfinite<DType::bf16>(x, n);
}
