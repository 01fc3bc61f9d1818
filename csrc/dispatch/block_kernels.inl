// Encode and decode loops of every BlockCodec.

// One block of y, padded to full size, to codes (and, with kResidual, y - decoded to r, which may
// be y itself).
template <class C, bool kStochastic, bool kResidual>
void quantise_block(const float* y, std::size_t block, BlockScale s, std::uint8_t* codes, float* r,
                    std::size_t index, std::uint64_t key) {
  const F scale = F::splat(s.value), inverse = F::splat(s.inverse);
  // The code of the sixteen values at y[i], their residual written.
  const auto code_at = [&](std::size_t i) THINWIRE_LAMBDA {
    const F v = load<DType::fp32>(y + i);
    const I lane =
        kStochastic ? I::lanes() + I::splat(static_cast<std::uint32_t>(index + i)) : I::splat(0);
    const I code = block_code<C, kStochastic>(v, inverse, lane, key);
    if constexpr (kResidual)
      store<DType::fp32>(r + i, v - C::template dequantise<F>(code, scale));
    return C::to_wire(code);
  };
  if constexpr (C::kBits == 8) {
    for (std::size_t i = 0; i < block; i += kLanes)
      store_bytes(codes + i, code_at(i));
  } else if constexpr (C::kBits == 4) {
    for (std::size_t i = 0; i < block / 2; i += kLanes)
      store_bytes(codes + i, code_at(i) | shl<4>(code_at(i + block / 2)));
  } else {
    for (std::size_t i = 0; i < block; i += kLanes) {
      const std::uint16_t mask = low_bits(code_at(i));
      __builtin_memcpy(codes + i / 8, &mask, 2);
    }
  }
}

// Returns whether the block was not finite. `count` values of the `block` are real.
template <class C, bool kStochastic>
bool encode_block(const float* y, std::size_t count, std::size_t block, std::uint8_t* scale,
                  std::uint8_t* codes, float* r, std::size_t index, std::uint64_t key) {
  float base;
  if constexpr (C::kBase == ScaleBase::greatest)
    base = bits_float(greatest_magnitude(y, block));
  else
    base = magnitude_sum(y, block) / static_cast<float>(count);
  const BlockScale s = block_scale(base, C::kDivisor);
  __builtin_memcpy(scale, &s.bits, 2);
  if (s.coded) {
    if (r)
      quantise_block<C, kStochastic, true>(y, block, s, codes, r, index, key);
    else
      quantise_block<C, kStochastic, false>(y, block, s, codes, r, index, key);
    return false;
  }
  const bool nonfinite = is_nan_scale(s.bits);
  __builtin_memset(codes, C::kZeroWire, block * C::kBits / 8);
  if (r && nonfinite)
    __builtin_memset(r, 0, block * sizeof(float));
  else if (r && r != y)
    __builtin_memcpy(r, y, block * sizeof(float));
  return nonfinite;
}

template <class C, bool kStochastic> std::size_t encode_blocks(const EncodeArgs& a) {
  const std::size_t block = a.spec.block;
  const BlockSections sections = block_sections(a.n, block, C::kBits);
  const Source source = source_of(a);
  const Sink sink = sink_of(a);
  alignas(64) float y_tile[kLargestBlock], r_tile[kLargestBlock];
  std::uint8_t *scale = a.payload, *codes = a.payload + sections.codes;
  std::size_t nonfinite = 0;
  const std::size_t tile = larger(kTile, block);
  for (std::size_t at = 0; at < a.n; at += tile) {
    const std::size_t count = smaller(tile, a.n - at), padded = ceil_div(count, block) * block;
    const float* y = values(source, at, count, padded, y_tile);
    float* r = residual_tile(sink, at, count, padded, r_tile);
    for (std::size_t i = 0; i < padded; i += block, scale += 2, codes += block * C::kBits / 8)
      nonfinite += encode_block<C, kStochastic>(y + i, smaller(block, count - i), block, scale,
                                                codes, r ? r + i : nullptr, at + i, a.key);
    finish_residual(sink, at, count, r, r_tile);
  }
  fill_zero(scale, a.payload + sections.codes);
  fill_zero(codes, a.payload + sections.bytes);
  return nonfinite;
}

template <BlockCodec C> std::size_t encode(const EncodeArgs& a) {
  if constexpr (C::kHasRounding)
    if (a.spec.rounding == Rounding::stochastic)
      return encode_blocks<C, true>(a);
  return encode_blocks<C, false>(a);
}

template <class C, bool kAccumulate>
void decode_block(std::uint16_t scale_bits, const std::uint8_t* codes, std::size_t block,
                  float* out) {
  const bool finite = (scale_bits & 0x7f80) != 0x7f80;
  const F scale = F::splat(from_bf16(scale_bits));
  const auto put_at = [&](std::size_t i, I wire) THINWIRE_LAMBDA {
    const F decoded = finite ? C::template dequantise<F>(C::from_wire(wire), scale)
                             : F::splat(bits_float(kFp32Nan));
    put<DType::fp32, kAccumulate>(out + i, decoded);
  };
  if constexpr (C::kBits == 8) {
    for (std::size_t i = 0; i < block; i += kLanes)
      put_at(i, load_bytes(codes + i));
  } else if constexpr (C::kBits == 4) {
    for (std::size_t i = 0; i < block / 2; i += kLanes) {
      const I pair = load_bytes(codes + i);
      put_at(i, pair & I::splat(15));
      put_at(i + block / 2, shr<4>(pair));
    }
  } else {
    for (std::size_t i = 0; i < block; i += kLanes) {
      std::uint16_t mask;
      __builtin_memcpy(&mask, codes + i / 8, 2);
      put_at(i, from_low_bits(mask));
    }
  }
}

template <class C, bool kAccumulate> void decode_blocks(const DecodeArgs& a) {
  const std::size_t block = a.spec.block, tile = larger(kTile, block);
  const std::uint8_t *scale = a.payload,
                     *codes = a.payload + block_sections(a.n, block, C::kBits).codes;
  alignas(64) float decoded[kLargestBlock];
  for (std::size_t at = 0; at < a.n; at += tile) {
    const std::size_t count = smaller(tile, a.n - at), padded = ceil_div(count, block) * block;
    const bool direct = a.dtype == DType::fp32 && count == padded;
    prefetch_ahead(a.out, at, count, a.dtype);
    for (std::size_t i = 0; i < padded; i += block, scale += 2, codes += block * C::kBits / 8) {
      std::uint16_t scale_bits;
      __builtin_memcpy(&scale_bits, scale, 2);
      if (direct)
        decode_block<C, kAccumulate>(scale_bits, codes, block, static_cast<float*>(a.out) + at + i);
      else
        decode_block<C, false>(scale_bits, codes, block, decoded + i);
    }
    if (!direct)
      deliver<kAccumulate>(a, at, count, decoded);
  }
}

template <BlockCodec C> void decode(const DecodeArgs& a) {
  if (a.accumulate)
    decode_blocks<C, true>(a);
  else
    decode_blocks<C, false>(a);
}
