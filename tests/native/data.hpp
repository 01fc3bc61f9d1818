// Inputs of the native tests: random numbers from a seed, exactly sized memory, tensors of every
// dtype, all codecs.
#pragma once

#include "codec/math.hpp"
#include "codec/spec.hpp"
#include "codec/topk.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace data {

using thinwire::CodecSpec;
using thinwire::DType;

// SplitMix64.
class Random {
public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() % bound); }
  float symmetric() { return static_cast<float>(next() >> 40) * 0x1p-23f - 1.0f; } // in [-1, 1)

private:
  std::uint64_t state_;
};

// Bytes on the heap that end where the allocation ends, and start `skew` bytes into it:
// AddressSanitizer sees any access past the end, and, without a skew, before the start.
class Memory {
public:
  explicit Memory(std::size_t size, std::size_t skew = 0)
      : bytes_(new std::uint8_t[size + skew]), size_(size), skew_(skew) {
    std::memset(data(), 0x5a, size);
  }
  Memory(const Memory& other) : Memory(other.size_, other.skew_) {
    std::memcpy(data(), other.data(), size_);
  }
  Memory& operator=(const Memory&) = delete;

  std::uint8_t* data() { return bytes_.get() + skew_; }
  const std::uint8_t* data() const { return bytes_.get() + skew_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> span() { return {reinterpret_cast<std::byte*>(data()), size_}; }
  bool operator==(const Memory& other) const {
    return size_ == other.size_ && std::memcmp(data(), other.data(), size_) == 0;
  }

private:
  std::unique_ptr<std::uint8_t[]> bytes_;
  std::size_t size_, skew_;
};

inline std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    text += "0123456789abcdef"[std::to_integer<int>(byte >> 4)];
    text += "0123456789abcdef"[std::to_integer<int>(byte & std::byte{15})];
  }
  return text;
}

// Of `even_chunks`, great values are in every other chunk of topk's sample alone, beside some NaN.
enum class Kind { ordinary, tiny, huge, zeros, ties, sparse, special, any_bits, even_chunks };
inline constexpr Kind kKinds[] = {Kind::ordinary, Kind::tiny,   Kind::huge,    Kind::zeros,
                                  Kind::ties,     Kind::sparse, Kind::special, Kind::any_bits};

inline float value(Kind kind, std::size_t index, Random& random) {
  const float u = random.symmetric();
  switch (kind) {
  case Kind::ordinary:
    return u * u * u * 0x1p-8f;
  case Kind::tiny: // around the smallest scale base, and denormal
    return u * (random.below(2) ? 0x1p-100f : 0x1p-128f);
  case Kind::huge:
    return u * 0x1.fp127f;
  case Kind::zeros:
    return u < 0 ? -0.0f : 0.0f;
  case Kind::ties: // many values between two codes
    return index % 32 == 0 ? 127.0f
                           : static_cast<float>(static_cast<int>(random.below(509)) - 254) * 0.5f;
  case Kind::sparse:
    return index % 37 == 5 ? u : 0.0f;
  case Kind::special:
    return index % 700 == 3     ? thinwire::bits_float(0xffc12345)
           : index % 700 == 400 ? 1.0f / (u > 0 ? 0.0f : -0.0f)
                                : u;
  case Kind::any_bits:
    return thinwire::bits_float(static_cast<std::uint32_t>(random.next()));
  case Kind::even_chunks:
    return index % 9001 == 5 ? thinwire::bits_float(0xffc12345)
           : index / thinwire::TopK::kSampleChunk % 2 == 0 && index % 37 == 5 ? u
                                                                              : u * 0x1p-20f;
  }
  return 0;
}

inline void set(Memory& tensor, DType dtype, std::size_t i, float v) {
  if (dtype == DType::fp32) {
    std::memcpy(tensor.data() + 4 * i, &v, 4);
    return;
  }
  const std::uint16_t half = dtype == DType::fp16 ? thinwire::to_fp16(v) : thinwire::to_bf16(v);
  std::memcpy(tensor.data() + 2 * i, &half, 2);
}

inline float get(const Memory& tensor, DType dtype, std::size_t i) {
  if (dtype == DType::fp32) {
    float v;
    std::memcpy(&v, tensor.data() + 4 * i, 4);
    return v;
  }
  std::uint16_t half;
  std::memcpy(&half, tensor.data() + 2 * i, 2);
  return dtype == DType::fp16 ? thinwire::from_fp16(half) : thinwire::from_bf16(half);
}

inline Memory tensor(Kind kind, DType dtype, std::size_t n, std::uint64_t seed,
                     std::size_t skew = 0) {
  Memory made(n * thinwire::element_bytes(dtype), skew);
  Random random(seed);
  for (std::size_t i = 0; i < n; ++i)
    set(made, dtype, i, value(kind, i, random));
  return made;
}

// The smallest block, the largest, and one between.
inline std::array<std::uint32_t, 3> block_edges(std::uint32_t smallest) {
  const auto largest = static_cast<std::uint32_t>(thinwire::kLargestBlock);
  return {smallest, 4 * smallest, std::bit_floor(largest / smallest) * smallest};
}

// Every codec with its default parameters and at the edges of what they may be.
inline std::vector<CodecSpec> every_spec() {
  std::vector<CodecSpec> found;
  for (const CodecSpec& defaults : thinwire::codec_defaults()) {
    const auto add = [&, name = defaults.name()](auto... parameters) {
      found.push_back(CodecSpec::make(name, parameters...));
    };
    add();
    if (defaults.has_block())
      for (std::uint32_t block : block_edges(defaults.smallest_block()))
        add(block);
    if (defaults.has_rounding())
      add(0u, "stochastic");
    if (defaults.has_format())
      for (const char* rounding : {"nearest", "stochastic"})
        add(0u, rounding, 0.0, "", "e5m2");
    if (defaults.has_rotation()) {
      for (std::uint32_t block : block_edges(defaults.smallest_block()))
        add(block, "", 0.0, "", "", true);
      if (defaults.has_rounding())
        add(0u, "stochastic", 0.0, "", "", true);
    }
    if (defaults.has_density())
      for (const char* values : {"sign", "int8", "fp16"})
        for (double density : {0.000001, 0.01, 0.5})
          add(0u, "", density, values);
  }
  return found;
}

inline std::string text(const CodecSpec& spec) {
  return std::string(spec.name()) + " block=" + std::to_string(spec.block) +
         " density=" + std::to_string(spec.density) + " values=" + thinwire::name(spec.values) +
         " rounding=" + thinwire::name(spec.rounding) + " format=" + thinwire::name(spec.format) +
         " rotate=" + std::to_string(spec.rotate);
}

} // namespace data
