// Encode and decode loops of topk.

// Counts the sampled magnitudes by eleven bits of theirs: the leading ones (`prefix` < 0), or the
// next eleven of those that start with `prefix`.
void count_magnitudes(const Source& source, std::size_t n, const TopKSample& sample,
                      std::int64_t prefix, std::uint32_t* bins) {
  alignas(64) float tile[TopK::kSampleChunk];
  __builtin_memset(bins, 0, TopK::kBins * sizeof *bins);
  for (std::size_t at = sample.phase * TopK::kSampleChunk; at < n;
       at += sample.stride * TopK::kSampleChunk) {
    const std::size_t count = smaller(TopK::kSampleChunk, n - at);
    const float* y = values(source, at, count, count, tile);
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t magnitude = float_bits(y[i]) & kMagnitudeMask;
      if (prefix < 0)
        ++bins[magnitude >> TopK::kLeadingShift];
      else if ((magnitude >> TopK::kLeadingShift) == static_cast<std::uint32_t>(prefix))
        ++bins[(magnitude / TopK::kThresholdStep) % TopK::kBins];
    }
  }
}

// The bin of the `rank`-th greatest value (from 1); `rank` becomes its rank inside the bin.
std::uint32_t bin_of_rank(const std::uint32_t* bins, std::size_t& rank) {
  std::uint32_t bin = TopK::kBins - 1;
  for (; bin > 0 && bins[bin] < rank; --bin)
    rank -= bins[bin];
  return bin;
}

std::uint32_t threshold(const Source& source, std::size_t n, std::uint32_t density,
                        std::uint64_t step) {
  const TopKSample sample = topk_sample(n, density, step);
  std::size_t rank = sample.rank;
  std::uint32_t bins[TopK::kBins];
  count_magnitudes(source, n, sample, -1, bins);
  const std::uint32_t prefix = bin_of_rank(bins, rank);
  count_magnitudes(source, n, sample, prefix, bins);
  return topk_bound(prefix, bin_of_rank(bins, rank));
}

// The entries of one group, in order.
struct Entries {
  std::size_t count;
  std::uint16_t index[TopK::kGroup];              // within the group
  alignas(64) float value[TopK::kGroup + kLanes]; // padded with zeros to whole vectors
  alignas(64) float decoded[TopK::kGroup + kLanes];
  alignas(64) std::uint16_t code[TopK::kGroup + kLanes];
};

// Codes every entry, and says what each decodes to.
template <TopKValues V> void code_entries(Entries& e, BlockScale s) {
  const F scale = F::splat(s.value), inverse = F::splat(s.inverse);
  for (std::size_t i = 0; i < e.count; i += kLanes) {
    const F v = load<DType::fp32>(e.value + i);
    F decoded;
    if constexpr (V == TopKValues::fp16) {
      store<DType::fp16>(e.code + i, v * inverse);
      decoded = load<DType::fp16>(e.code + i) * scale;
    } else {
      using Codec = std::conditional_t<V == TopKValues::int8, Int8, Sign1>;
      const I code = nearest_code<Codec>(v, inverse);
      decoded = Codec::template dequantise<F>(code, scale);
      alignas(64) std::uint8_t bytes[kLanes];
      store_bytes(bytes, Codec::to_wire(code));
      for (std::size_t j = 0; j < kLanes; ++j)
        e.code[i + j] = bytes[j];
    }
    store<DType::fp32>(e.decoded + i, decoded);
  }
}

template <TopKValues V>
void write_code(std::uint8_t* codes, std::size_t ordinal, std::uint16_t code) {
  if constexpr (V == TopKValues::sign)
    codes[ordinal / 8] = static_cast<std::uint8_t>(codes[ordinal / 8] | code << ordinal % 8);
  else
    __builtin_memcpy(codes + ordinal * (V == TopKValues::int8 ? 1 : 2), &code,
                     V == TopKValues::int8 ? 1 : 2);
}

template <TopKValues V> std::uint16_t read_code(const std::uint8_t* codes, std::size_t ordinal) {
  if constexpr (V == TopKValues::sign)
    return (codes[ordinal / 8] >> ordinal % 8) & 1;
  std::uint16_t code = 0;
  __builtin_memcpy(&code, codes + ordinal * (V == TopKValues::int8 ? 1 : 2),
                   V == TopKValues::int8 ? 1 : 2);
  return code;
}

// Reads `count` values of a group (padded to whole vectors), copies them to r unless it is null,
// sets bit i of `selected` where a magnitude reaches the bound, and returns the greatest magnitude.
std::uint32_t select_in_group(const float* y, std::size_t count, std::uint32_t bound, float* r,
                              std::uint16_t* selected) {
  I most = I::splat(0);
  for (std::size_t i = 0; i < count; i += kLanes) {
    const F v = load<DType::fp32>(y + i);
    const I magnitude = bits(v) & I::splat(kMagnitudeMask);
    most = max_int(most, magnitude);
    selected[i / kLanes] = at_least(magnitude, bound);
    if (r)
      store<DType::fp32>(r + i, v);
  }
  return greatest(most);
}

// Takes the selected values of one row as entries, at most `room`, and writes their offsets.
// Returns how many.
std::size_t take_row(const float* y, std::size_t row, const std::uint16_t* selected,
                     std::size_t room, std::uint8_t* offsets, Entries& e) {
  std::size_t taken = 0;
  for (std::size_t word = 0; word < TopK::kRow / 64; ++word) {
    std::uint64_t mask;
    __builtin_memcpy(&mask, selected + row * (TopK::kRow / kLanes) + word * 4, 8);
    for (; mask != 0 && taken < room; mask &= mask - 1, ++taken) {
      const std::size_t offset = word * 64 + static_cast<std::size_t>(__builtin_ctzll(mask));
      offsets[taken] = static_cast<std::uint8_t>(offset);
      e.index[e.count] = static_cast<std::uint16_t>(row * TopK::kRow + offset);
      e.value[e.count++] = y[row * TopK::kRow + offset];
    }
  }
  return taken;
}

BlockScale entries_scale(Entries& e, std::uint32_t greatest_in_group, TopKValues values) {
  if (greatest_in_group >= kInfinityBits)
    return block_scale(bits_float(kFp32Nan), 1.0f);
  if (e.count == 0)
    return block_scale(0.0f, 1.0f);
  const std::size_t padded = ceil_div(e.count, kLanes) * kLanes;
  for (std::size_t i = e.count; i < padded; ++i)
    e.value[i] = 0.0f;
  const float base = values == TopKValues::sign
                         ? magnitude_sum(e.value, padded) / static_cast<float>(e.count)
                         : bits_float(greatest_magnitude(e.value, padded));
  return block_scale(base, TopK::divisor(values));
}

template <TopKValues V> std::size_t encode_topk(const EncodeArgs& a) {
  const TopKSections s = topk_sections(a.n, a.spec.density, V);
  const Source source = source_of(a);
  const Sink sink = sink_of(a);
  std::uint8_t *counts = a.payload, *offsets = a.payload + s.offsets, *codes = a.payload + s.values;
  fill_zero(a.payload, a.payload + s.bytes);
  if (a.n == 0)
    return 0;
  const std::uint32_t bound = threshold(source, a.n, a.spec.density, a.step);
  alignas(64) float y_tile[TopK::kGroup], r_tile[TopK::kGroup];
  Entries e;
  std::size_t ordinal = 0, nonfinite = 0;
  for (std::size_t at = 0, group = 0; at < a.n; at += TopK::kGroup, ++group) {
    const std::size_t count = smaller(TopK::kGroup, a.n - at),
                      padded = ceil_div(count, kLanes) * kLanes;
    const float* y = values(source, at, count, padded, y_tile);
    float* r = residual_tile(sink, at, count, padded, r_tile);
    alignas(64) std::uint16_t selected[TopK::kGroup / kLanes] = {};
    const std::uint32_t most = select_in_group(y, padded, bound, r, selected);
    e.count = 0;
    const std::size_t first = ordinal;
    for (std::size_t row = 0; row * TopK::kRow < count; ++row) {
      const std::size_t room = smaller(TopK::kMostInRow, s.capacity - ordinal);
      const std::size_t taken = take_row(y, row, selected, room, offsets + ordinal, e);
      *counts++ = static_cast<std::uint8_t>(taken);
      ordinal += taken;
    }
    const BlockScale scale = entries_scale(e, most, V);
    __builtin_memcpy(a.payload + s.scales + 2 * group, &scale.bits, 2);
    if (scale.coded) {
      code_entries<V>(e, scale);
      for (std::size_t i = 0; i < e.count; ++i) {
        write_code<V>(codes, first + i, e.code[i]);
        if (r)
          r[e.index[i]] = e.value[i] - e.decoded[i];
      }
    } else if (is_nan_scale(scale.bits)) {
      ++nonfinite;
      if (r)
        __builtin_memset(r, 0, padded * sizeof(float));
    }
    finish_residual(sink, at, count, r, r_tile);
  }
  return nonfinite;
}

template <class C>
  requires std::is_same_v<C, TopK>
std::size_t encode(const EncodeArgs& a) {
  switch (a.spec.values) {
  case TopKValues::int8:
    return encode_topk<TopKValues::int8>(a);
  case TopKValues::fp16:
    return encode_topk<TopKValues::fp16>(a);
  default:
    return encode_topk<TopKValues::sign>(a);
  }
}

template <TopKValues V> void decode_topk(const DecodeArgs& a) {
  const TopKSections s = topk_sections(a.n, a.spec.density, V);
  const std::uint8_t *counts = a.payload, *offsets = a.payload + s.offsets,
                     *codes = a.payload + s.values;
  alignas(64) float decoded[TopK::kGroup];
  std::size_t ordinal = 0;
  for (std::size_t at = 0, group = 0; at < a.n; at += TopK::kGroup, ++group) {
    const std::size_t count = smaller(TopK::kGroup, a.n - at);
    std::uint16_t scale_bits;
    __builtin_memcpy(&scale_bits, a.payload + s.scales + 2 * group, 2);
    const bool finite = (scale_bits & 0x7f80) != 0x7f80;
    const float scale = from_bf16(scale_bits);
    prefetch_ahead(a.out, at, count, a.dtype);
    __builtin_memset(decoded, 0, sizeof decoded);
    for (std::size_t row = 0; row * TopK::kRow < count; ++row)
      for (std::size_t left = *counts++; left > 0; --left, ++ordinal)
        decoded[row * TopK::kRow + offsets[ordinal]] =
            topk_decoded<V>(read_code<V>(codes, ordinal), scale);
    if (!finite)
      fill_nan(decoded, count);
    if (a.accumulate)
      deliver<true>(a, at, count, decoded);
    else
      deliver<false>(a, at, count, decoded);
  }
}

template <class C>
  requires std::is_same_v<C, TopK>
void decode(const DecodeArgs& a) {
  switch (a.spec.values) {
  case TopKValues::int8:
    return decode_topk<TopKValues::int8>(a);
  case TopKValues::fp16:
    return decode_topk<TopKValues::fp16>(a);
  default:
    return decode_topk<TopKValues::sign>(a);
  }
}
