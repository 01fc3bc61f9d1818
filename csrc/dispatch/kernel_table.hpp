// The kernels of one CPU target, as a table of pointers.
#pragma once

#include "codec/spec.hpp"
#include "dispatch/basis.hpp"
#include "dispatch/boundary.hpp"

#include <array>

namespace thinwire {

// Whether a segment is held, where only a CUDA device knows: `used` points to a 0 there if it is.
// Null where the host knows. With `in_x`, the residual of one that is not held is in x already.
struct HeldOnDevice {
  const std::uint32_t* used = nullptr;
  bool in_x = false;
};

// One segment to encode: y = x * scale + residual_in, residual_out = y - decoded. A held segment
// keeps its residual out of y and adds it after: residual_out = residual_in + (y - decoded).
// Residuals may be null, or the same memory.
struct EncodeArgs {
  const void* x;
  DType dtype;
  std::size_t n;
  float scale;
  const void* residual_in;
  void* residual_out;
  DType residual_dtype; // fp32 or bf16
  bool held;
  CodecSpec spec;
  std::uint64_t key;           // stochastic rounding
  std::uint64_t step;          // topk: which part of the values is sampled
  std::uint8_t* payload;       // spec.payload_bytes(n), all of it written
  float gain = 1;              // by which codecs of one magnitude a block (sign1) multiply it
  HeldOnDevice on_device = {}; // what CUDA kernels settle `held` by
  std::uint64_t* nonfinite = nullptr; // to which they add what CPU kernels return
};

struct DecodeArgs {
  const std::uint8_t* payload;
  std::size_t n;
  CodecSpec spec;
  void* out;
  DType dtype;
  bool accumulate;
};

// out[i] = x[i] * scale + residual[i], in fp32.
struct FoldArgs {
  const void* x;
  DType dtype;
  std::size_t n;
  float scale;
  const void* residual; // may be null
  DType residual_dtype;
  float* out;
  const std::uint32_t* used = nullptr; // of HeldOnDevice: held, it is out without the residual
};

struct KernelTable {
  // By position in Codecs. An encoder returns how many blocks (values, for the cast codecs) were
  // not finite.
  std::array<std::size_t (*)(const EncodeArgs&), Codecs::kSize> encode;
  std::array<void (*)(const DecodeArgs&), Codecs::kSize> decode;
  void (*fold)(const FoldArgs&);
  bool (*is_zero)(const void* x, std::size_t n, DType dtype);
  std::size_t (*count_nonfinite)(const void* x, std::size_t n, DType dtype);
  BasisKernels basis;
  FindBoundaries find_boundaries;
};

// The table of active_target().
const KernelTable& active_kernels();

// Position in Codecs of a wire id that is known to exist.
std::size_t codec_index(std::uint8_t wire_id);

} // namespace thinwire
