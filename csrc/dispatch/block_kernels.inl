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
  if constexpr (C::kRadix == 2) {
    for (std::size_t i = 0; i < block; i += kLanes) {
      const std::uint16_t mask = low_bits(code_at(i));
      __builtin_memcpy(codes + i / 8, &mask, 2);
    }
  } else {
    constexpr std::size_t kDigits = codes_per_byte(C::kRadix);
    const std::size_t part = code_bytes(block, C::kRadix);
    for (std::size_t i = 0; i < part; i += kLanes) {
      I byte = code_at(i + (kDigits - 1) * part);
      for (std::size_t digit = kDigits - 1; digit-- > 0;)
        byte = times_radix<C::kRadix>(byte) + code_at(i + digit * part);
      store_bytes(codes + i, byte);
    }
  }
}

// The magnitudes of a block, padded with zeros, that are above a bound.
MagnitudeSums sums_above(const float* y, std::size_t block, float bound) {
  F sum = F::splat(0.0f);
  I count = I::splat(0);
  for (std::size_t i = 0; i < block; i += kLanes) {
    const F v = load<DType::fp32>(y + i);
    const I above = exceeds(v, bound);
    sum = sum + magnitude_where(v, above);
    count = count - above; // a lane of ones is -1
  }
  return {tree_sum(sum), tree_sum(to_float(count))};
}

// NaN or infinite where the block is not finite.
template <class C>
float scale_base(const float* y, std::size_t count, std::size_t block, float gain) {
  if constexpr (C::kBase == ScaleBase::greatest) {
    return bits_float(greatest_magnitude(y, block));
  } else {
    const MagnitudeSums all = {magnitude_sum(y, block), static_cast<float>(count)};
    if constexpr (C::kBase == ScaleBase::fitted)
      if (is_fitted(all))
        return fit<C>(all, sums_above(y, block, outer_bound<C>(all)));
    return C::kBase == ScaleBase::mean ? mean(all) * gain : mean(all);
  }
}

// One block by its scale. Returns whether it was not finite.
template <class C, bool kStochastic>
bool encode_block(const float* y, std::size_t block, BlockScale s, std::uint8_t* codes, float* r,
                  std::size_t index, std::uint64_t key) {
  if (s.coded) {
    if (r)
      quantise_block<C, kStochastic, true>(y, block, s, codes, r, index, key);
    else
      quantise_block<C, kStochastic, false>(y, block, s, codes, r, index, key);
    return false;
  }
  const bool nonfinite = is_nan_scale(s.bits);
  __builtin_memset(codes, C::kZeroWire, code_bytes(block, C::kRadix));
  if (r && nonfinite)
    __builtin_memset(r, 0, block * sizeof(float));
  else if (r && r != y)
    __builtin_memcpy(r, y, block * sizeof(float));
  return nonfinite;
}

template <class C, bool kStochastic> std::size_t encode_blocks(const EncodeArgs& a) {
  const std::size_t block = a.spec.block;
  const BlockSections sections = block_sections(a.n, block, C::kRadix);
  const Source source = source_of(a);
  const Sink sink = sink_of(a);
  alignas(64) float y_tile[kLargestBlock], r_tile[kLargestBlock];
  BlockScale scales[kTile / C::kSmallestBlock + 1];
  std::uint8_t *scale = a.payload, *codes = a.payload + sections.codes;
  std::size_t nonfinite = 0;
  const std::size_t tile = whole_blocks(kTile, block);
  for (std::size_t at = 0; at < a.n; at += tile) {
    const std::size_t count = smaller(tile, a.n - at), padded = whole_blocks(count, block);
    const float* y = values(source, at, count, padded, y_tile);
    float* r = residual_tile(sink, at, count, padded, r_tile);
    // All scales first: each is a chain of dependent steps, and the processor overlaps the chains.
    for (std::size_t i = 0, k = 0; i < padded; i += block, ++k, scale += 2) {
      const float base = scale_base<C>(y + i, smaller(block, count - i), block, a.gain);
      scales[k] = block_scale(base, C::kDivisor);
      __builtin_memcpy(scale, &scales[k].bits, 2);
    }
    for (std::size_t i = 0, k = 0; i < padded;
         i += block, ++k, codes += code_bytes(block, C::kRadix))
      nonfinite += encode_block<C, kStochastic>(y + i, block, scales[k], codes, r ? r + i : nullptr,
                                                at + i, a.key);
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
  if constexpr (C::kRadix == 2) {
    for (std::size_t i = 0; i < block; i += kLanes) {
      std::uint16_t mask;
      __builtin_memcpy(&mask, codes + i / 8, 2);
      put_at(i, from_low_bits(mask));
    }
  } else {
    constexpr std::size_t kDigits = codes_per_byte(C::kRadix);
    const std::size_t part = code_bytes(block, C::kRadix);
    for (std::size_t i = 0; i < part; i += kLanes) {
      I rest = load_bytes(codes + i);
      for (std::size_t digit = 0; digit + 1 < kDigits; ++digit) {
        put_at(i + digit * part, lowest_digit<C::kRadix>(rest));
        rest = over_radix<C::kRadix>(rest);
      }
      put_at(i + (kDigits - 1) * part, rest);
    }
  }
}

template <class C, bool kAccumulate> void decode_blocks(const DecodeArgs& a) {
  const std::size_t block = a.spec.block, tile = whole_blocks(kTile, block);
  const std::uint8_t *scale = a.payload,
                     *codes = a.payload + block_sections(a.n, block, C::kRadix).codes;
  alignas(64) float decoded[kLargestBlock];
  for (std::size_t at = 0; at < a.n; at += tile) {
    const std::size_t count = smaller(tile, a.n - at), padded = whole_blocks(count, block);
    const bool direct = a.dtype == DType::fp32 && count == padded;
    prefetch_ahead(a.out, at, count, a.dtype);
    for (std::size_t i = 0; i < padded;
         i += block, scale += 2, codes += code_bytes(block, C::kRadix)) {
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
