// Single values of tensors of any dtype: what encoders read, what becomes of residuals, what
// decoders write.
#pragma once

#include "dispatch/kernel_table.hpp"
#include "dispatch/warp.hpp"

namespace thinwire::lane {

THINWIRE_TEAM F load(const void* base, DType dtype, std::size_t i) {
  if (dtype == DType::fp32)
    return {static_cast<const float*>(base)[i]};
  const std::uint16_t half = static_cast<const std::uint16_t*>(base)[i];
  return {dtype == DType::fp16 ? from_fp16(half) : from_bf16(half)};
}

// Rounds to nearest even; a NaN of 16 bits is canonical.
THINWIRE_TEAM void store(void* base, DType dtype, std::size_t i, F v) {
  if (dtype == DType::fp32)
    static_cast<float*>(base)[i] = v.v;
  else
    static_cast<std::uint16_t*>(base)[i] = dtype == DType::fp16 ? to_fp16(v.v) : to_bf16(v.v);
}

// y[i], the encoder's input.
THINWIRE_TEAM F value(const EncodeArgs& a, std::size_t i) {
  const F v = load(a.x, a.dtype, i) * F::splat(a.scale);
  return a.residual_in && !a.held ? v + load(a.residual_in, a.residual_dtype, i) : v;
}

// Stores `error`, which is y[i] - decoded or zero, as the residual. It may replace what value()
// reads at i.
THINWIRE_TEAM void keep(const EncodeArgs& a, std::size_t i, F error) {
  if (!a.residual_out)
    return;
  if (a.residual_in && a.held)
    error = canonical(load(a.residual_in, a.residual_dtype, i) + error);
  store(a.residual_out, a.residual_dtype, i, error);
}

// Stores or adds a decoded value.
THINWIRE_TEAM void deliver(const DecodeArgs& a, std::size_t i, F decoded) {
  if (a.accumulate)
    decoded = canonical(load(a.out, a.dtype, i) + decoded);
  store(a.out, a.dtype, i, decoded);
}

template <class Team>
THINWIRE_TEAM void fill_zero(const Team& team, std::uint8_t* from, std::uint8_t* to) {
  each(team, static_cast<std::size_t>(to - from), [=](std::size_t i) { from[i] = 0; });
}

} // namespace thinwire::lane
