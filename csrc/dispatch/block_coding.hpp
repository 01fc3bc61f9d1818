// What the parameters of a block codec choose for the loops at compile time.
#pragma once

#include "codec/rotation.hpp"
#include "codec/spec.hpp"

namespace thinwire {

// A block codec in one of its formats, with one way of rounding, and rotated or not.
template <class Format, bool kIsStochastic, bool kIsRotated> struct BlockCoding : Format {
  static constexpr bool kStochastic = kIsStochastic, kRotate = kIsRotated;
  using Stochastic = BlockCoding<Format, true, kIsRotated>;

  static THINWIRE_HD bool decodes(const CodecSpec& spec) {
    if constexpr (requires { Format::kFormat; })
      if (spec.format != Format::kFormat)
        return false;
    return spec.rotate == kRotate;
  }
  static THINWIRE_HD bool encodes(const CodecSpec& spec) {
    return decodes(spec) && (spec.rounding == Rounding::stochastic) == kStochastic;
  }
};

// Calls f.template operator()<Coding>() for every BlockCoding of a codec that decodes in its own
// way.
template <BlockCodec C, class Fn> void for_each_decoding(Fn&& f) {
  FormatsOf<C>::for_each([&]<class Format>() {
    f.template operator()<BlockCoding<Format, false, false>>();
    if constexpr (Format::kHasRotation)
      f.template operator()<BlockCoding<Format, false, true>>();
  });
}

// The same for those that encode in their own way.
template <BlockCodec C, class Fn> void for_each_encoding(Fn&& f) {
  for_each_decoding<C>([&]<class Coding>() {
    f.template operator()<Coding>();
    if constexpr (Coding::kHasRounding)
      f.template operator()<typename Coding::Stochastic>();
  });
}

} // namespace thinwire
