// The registry: every codec there is, once. Tests, benchmarks, kernels, thinwire.codecs() and the
// documentation iterate it.
#pragma once

#include "codec/cast.hpp"
#include "codec/fp8.hpp"
#include "codec/int2.hpp"
#include "codec/int4.hpp"
#include "codec/int8.hpp"
#include "codec/sign1.hpp"
#include "codec/ternary.hpp"
#include "codec/topk.hpp"

namespace thinwire {

template <class... C> struct CodecList {
  static constexpr std::size_t kSize = sizeof...(C);
  // Calls f.template operator()<C>() for each codec, in order.
  template <class Fn> static constexpr void for_each(Fn&& f) { (f.template operator()<C>(), ...); }
};

using Codecs = CodecList<Raw, Fp16, Bf16, Fp8, Int8, Int4, Int2, Ternary, Sign1, TopK>;

// The formats of a codec: itself, unless it has several.
template <class C> struct FormatsOf : CodecList<C> {};
template <> struct FormatsOf<Fp8> : CodecList<Fp8, Fp8E5m2> {};

template <class C>
concept CastCodec = requires { C::kElement; };
template <class C>
concept BlockCodec = requires { C::kZeroWire; };

} // namespace thinwire
