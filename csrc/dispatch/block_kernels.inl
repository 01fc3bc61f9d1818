// Encode and decode loops of every BlockCodec.

// The scale that codes of a block are multiplied by.
template <class C> F decoding_scale(float scale, std::size_t block) {
  return F::splat(C::kRotate ? rotated_scale(scale, block) : scale);
}

// One block, padded to full size, to codes; keep(i, v, decoded) sees every sixteen values once.
template <class C, class Keep>
void quantise_block(const float* values, std::size_t block, BlockScale s, std::uint8_t* codes,
                    std::size_t index, std::uint64_t key, Keep keep) {
  const F scale = decoding_scale<C>(s.value, block), inverse = F::splat(s.inverse);
  const auto code_at = [&](std::size_t i) THINWIRE_LAMBDA {
    const F v = load<DType::fp32>(values + i);
    const I lane =
        C::kStochastic ? I::lanes() + I::splat(static_cast<std::uint32_t>(index + i)) : I::splat(0);
    const I code = block_code<C, C::kStochastic>(v, inverse, lane, key);
    keep(i, v, C::template dequantise<F>(code, scale));
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

// A block as it is coded: y, or the rotated values in memory that may be overwritten.
struct Block {
  const float* y;
  float* rotated;
  const Flips* flips;
  std::size_t size, index; // index of the first value in its segment
};

// Writes codes, and y - decoded to r unless it is null; r may be y itself.
template <class C>
void code_block(const Block& b, BlockScale s, std::uint8_t* codes, float* r, std::uint64_t key) {
  const auto code = [&](const float* values, auto keep) {
    quantise_block<C>(values, b.size, s, codes, b.index, key, keep);
  };
  const auto nothing = [](std::size_t, F, F) THINWIRE_LAMBDA {};
  if constexpr (C::kRotate) {
    if (!r)
      return code(b.rotated, nothing);
    code(b.rotated, [&](std::size_t i, F, F decoded)
                        THINWIRE_LAMBDA { store<DType::fp32>(b.rotated + i, decoded); });
    rotate_back(b.rotated, b.size, *b.flips);
    for (std::size_t i = 0; i < b.size; i += kLanes)
      store<DType::fp32>(r + i, load<DType::fp32>(b.y + i) - load<DType::fp32>(b.rotated + i));
  } else if (r) {
    code(b.y, [&](std::size_t i, F v, F decoded)
                  THINWIRE_LAMBDA { store<DType::fp32>(r + i, v - decoded); });
  } else {
    code(b.y, nothing);
  }
}

// One block by its scale. Returns whether it was not finite.
template <class C>
bool encode_block(const Block& b, BlockScale s, std::uint8_t* codes, float* r, std::uint64_t key) {
  if (s.coded) {
    code_block<C>(b, s, codes, r, key);
    return false;
  }
  const bool nonfinite = is_nan_scale(s.bits);
  __builtin_memset(codes, C::kZeroWire, code_bytes(b.size, C::kRadix));
  if (r && nonfinite)
    __builtin_memset(r, 0, b.size * sizeof(float));
  else if (r && r != b.y)
    __builtin_memcpy(r, b.y, b.size * sizeof(float));
  return nonfinite;
}

template <class C> std::size_t encode_blocks(const EncodeArgs& a) {
  const std::size_t block = a.spec.block;
  const BlockSections sections = block_sections(a.n, block, C::kRadix);
  const Source source = source_of(a);
  const Sink sink = sink_of(a);
  const Flips flips(C::kRotate ? block : 0);
  alignas(64) float y_tile[kLargestBlock], r_tile[kLargestBlock], rotated[kLargestBlock];
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
      float base;
      if constexpr (C::kRotate) {
        rotate(y + i, block, flips, rotated + i);
        base = scale_base<C>(rotated + i, block, block, a.gain);
      } else {
        base = scale_base<C>(y + i, smaller(block, count - i), block, a.gain);
      }
      scales[k] = block_scale(base, C::kDivisor);
      __builtin_memcpy(scale, &scales[k].bits, 2);
    }
    for (std::size_t i = 0, k = 0; i < padded;
         i += block, ++k, codes += code_bytes(block, C::kRadix))
      nonfinite += encode_block<C>({y + i, rotated + i, &flips, block, at + i}, scales[k], codes,
                                   r ? r + i : nullptr, a.key);
    finish_residual(sink, at, count, r, r_tile);
  }
  fill_zero(scale, a.payload + sections.codes);
  fill_zero(codes, a.payload + sections.bytes);
  return nonfinite;
}

template <BlockCodec C> std::size_t encode(const EncodeArgs& a) {
  std::size_t nonfinite = 0;
  for_each_encoding<C>([&]<class Coding>() {
    if (Coding::encodes(a.spec))
      nonfinite = encode_blocks<Coding>(a);
  });
  return nonfinite;
}

template <class C, bool kAccumulate>
void decode_block(std::uint16_t scale_bits, const std::uint8_t* codes, std::size_t block,
                  float* out) {
  const bool finite = is_finite_scale(scale_bits);
  const F scale = decoding_scale<C>(from_bf16(scale_bits), block);
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
  const Flips flips(C::kRotate ? block : 0);
  alignas(64) float decoded[kLargestBlock];
  for (std::size_t at = 0; at < a.n; at += tile) {
    const std::size_t count = smaller(tile, a.n - at), padded = whole_blocks(count, block);
    const bool direct = !C::kRotate && a.dtype == DType::fp32 && count == padded;
    prefetch_ahead(a.out, at, count, a.dtype);
    for (std::size_t i = 0; i < padded;
         i += block, scale += 2, codes += code_bytes(block, C::kRadix)) {
      std::uint16_t scale_bits;
      __builtin_memcpy(&scale_bits, scale, 2);
      if (direct) {
        decode_block<C, kAccumulate>(scale_bits, codes, block, static_cast<float*>(a.out) + at + i);
        continue;
      }
      decode_block<C, false>(scale_bits, codes, block, decoded + i);
      if (C::kRotate && has_codes(scale_bits))
        rotate_back(decoded + i, block, flips);
    }
    if (!direct)
      deliver<kAccumulate>(a, at, count, decoded);
  }
}

template <BlockCodec C> void decode(const DecodeArgs& a) {
  for_each_decoding<C>([&]<class Coding>() {
    if (!Coding::decodes(a.spec))
      return;
    if (a.accumulate)
      decode_blocks<Coding, true>(a);
    else
      decode_blocks<Coding, false>(a);
  });
}
