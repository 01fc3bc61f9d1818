// Encode and decode loops of every CastCodec.

// Codes `lanes` values to `wire`, and the residual to r unless it is null. Returns how many became
// non-finite.
template <CastCodec C>
std::size_t cast_lanes(const float* y, std::size_t lanes, std::uint8_t* wire, float* r) {
  const F v = load<DType::fp32>(y);
  alignas(64) std::uint8_t coded[64];
  store<C::kElement>(coded, canonical(v));
  const F decoded = load<C::kElement>(coded);
  if (lanes == kLanes)
    store<C::kElement>(wire, decoded); // exact: it came from there
  else
    __builtin_memcpy(wire, coded, lanes * element_bytes(C::kElement));
  if (r)
    store<DType::fp32>(r, zero_where_nonfinite(v - decoded, decoded));
  return static_cast<std::size_t>(
      __builtin_popcount(at_least(bits(decoded) & I::splat(kMagnitudeMask), kInfinityBits)));
}

template <CastCodec C> std::size_t encode(const EncodeArgs& a) {
  const Source source = source_of(a);
  const Sink sink = sink_of(a);
  alignas(64) float y_tile[kTile], r_tile[kTile];
  std::size_t nonfinite = 0;
  for (std::size_t at = 0; at < a.n; at += kTile) {
    const std::size_t count = smaller(kTile, a.n - at), padded = ceil_div(count, kLanes) * kLanes;
    const float* y = values(source, at, count, padded, y_tile);
    float* r = residual_tile(sink, at, count, padded, r_tile);
    for (std::size_t i = 0; i < count; i += kLanes)
      nonfinite += cast_lanes<C>(y + i, smaller(kLanes, count - i),
                                 element<C::kElement>(a.payload, at + i), r ? r + i : nullptr);
    finish_residual(sink, at, count, r, r_tile);
  }
  const std::size_t bytes = a.n * element_bytes(C::kElement);
  fill_zero(a.payload + bytes, a.payload + align16(bytes));
  return nonfinite;
}

// Into fp32, without a tile between.
template <class C, bool kAccumulate>
void decode_direct(const std::uint8_t* wire, std::size_t count, float* out) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    put<DType::fp32, kAccumulate>(out + i, load<C::kElement>(element<C::kElement>(wire, i)));
  for (; i < count; ++i) {
    alignas(64) float one[kLanes] = {out[i]};
    put<DType::fp32, kAccumulate>(one, load_some<C::kElement>(element<C::kElement>(wire, i), 1));
    out[i] = one[0];
  }
}

template <class C, bool kAccumulate> void decode_cast(const DecodeArgs& a) {
  constexpr DType kElement = C::kElement;
  alignas(64) float decoded[kTile];
  for (std::size_t at = 0; at < a.n; at += kTile) {
    const std::size_t count = smaller(kTile, a.n - at);
    prefetch_ahead(a.payload, at, count, kElement);
    prefetch_ahead(a.out, at, count, a.dtype);
    const std::uint8_t* wire = element<kElement>(a.payload, at);
    if (a.dtype == DType::fp32) {
      decode_direct<C, kAccumulate>(wire, count, static_cast<float*>(a.out) + at);
    } else {
      decode_direct<C, false>(wire, count, decoded);
      deliver<kAccumulate>(a, at, count, decoded);
    }
  }
}

template <CastCodec C> void decode(const DecodeArgs& a) {
  if (a.accumulate)
    decode_cast<C, true>(a);
  else
    decode_cast<C, false>(a);
}
