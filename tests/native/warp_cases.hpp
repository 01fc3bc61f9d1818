// Frames through the code of the CUDA kernels, emulated, against the CPU: what must be the same.
#pragma once

#include "host_warp.hpp"

#include "core/float_env.hpp"

namespace warp_cases {

using namespace thinwire;
using data::Kind;
using data::Memory;

inline constexpr DType kDTypes[] = {DType::fp32, DType::fp16, DType::bf16};

// How the residuals of a case go in and out.
enum class Keep { nothing, in_place, apart, held, out_only };
inline constexpr Keep kKeeps[] = {Keep::nothing, Keep::in_place, Keep::apart, Keep::held,
                                  Keep::out_only};

inline std::byte* bytes(Memory& memory) { return memory.span().data(); }

// Bytes by which a tensor starts off from where whole quads of it would.
inline std::size_t skew(DType dtype, std::uint64_t seed) { return seed % 4 * element_bytes(dtype); }

// A tensor and its residuals, one a segment.
class Values {
public:
  Values(const Layout& layout, Kind kind, DType dtype, DType residual_dtype, Keep keep,
         std::uint64_t seed)
      : x_(data::tensor(kind, dtype, layout.count(), seed, skew(dtype, seed))) {
    for (const Segment& segment : layout.segments()) {
      const Memory residual = data::tensor(Kind::ordinary, residual_dtype, segment.count, seed + 1,
                                           skew(residual_dtype, seed / 3));
      before_.push_back(residual);
      after_.push_back(residual);
      held_.push_back(keep == Keep::held);
    }
    for (std::size_t i = 0; i < before_.size(); ++i) {
      in_.push_back(before_[i].data());
      out_.push_back(keep == Keep::in_place ? before_[i].data() : after_[i].data());
    }
    view = {.x = x_.data(),
            .dtype = dtype,
            .scale = seed % 2 ? 1.0f : 0.3f,
            .residual_dtype = residual_dtype,
            .held = held_};
    if (keep != Keep::nothing)
      view.residual_out = out_;
    if (keep != Keep::nothing && keep != Keep::out_only)
      view.residual_in = in_;
  }
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;

  bool same_residuals(const Values& other) const {
    return before_ == other.before_ && after_ == other.after_;
  }

  FrameValues view;

private:
  Memory x_;
  std::vector<Memory> before_, after_;
  std::vector<void*> in_, out_;
  std::vector<std::uint8_t> held_;
};

// encode_frame and decode_frame, with the CUDA kernels' code.
inline std::size_t emulate_encode(emulation::Launcher launcher, const Layout& layout,
                                  const FrameHeader& header, const FrameValues& values,
                                  std::uint64_t key, Memory& frame) {
  Memory work(lane::work_bytes(layout));
  const FloatEnvironment environment;
  const Encoding encoding{&layout, values, key, header.step, bytes(frame), count_in(bytes(frame))};
  lane::encode_payloads(launcher, std::span(&encoding, 1), bytes(work));
  std::uint64_t nonfinite;
  std::memcpy(&nonfinite, frame.data(), sizeof nonfinite);
  finish_frame(layout, header, values.dtype, nonfinite, bytes(frame));
  return nonfinite;
}

inline void emulate_decode(emulation::Launcher launcher, const Layout& layout, Memory& frame,
                           Memory& out, DType dtype, bool accumulate) {
  Memory work(lane::work_bytes(layout));
  const FloatEnvironment environment;
  const Decoding decoding{&layout, bytes(frame), out.data(), dtype, accumulate};
  lane::decode_payloads(launcher, std::span(&decoding, 1), bytes(work));
}

struct Case {
  Kind kind;
  DType dtype, residual_dtype;
  Keep keep;
  std::uint64_t seed;
};

inline emulation::Launcher launcher_of(std::uint64_t seed) {
  constexpr std::size_t kWarps[] = {1, 3, 64};
  return emulation::Launcher(kWarps[seed % 3], seed % 4 < 2);
}

// Several frames in one pass must give the bits of one after another.
inline void check_frames(const Layout& layout, Kind kind, std::size_t count, std::uint64_t seed) {
  std::vector<Memory> frames;
  std::vector<const std::byte*> starts;
  for (std::size_t i = 0; i < count; ++i) {
    const Values values(layout, kind, DType::fp32, DType::fp32, Keep::nothing, seed + i);
    Memory& frame = frames.emplace_back(layout.frame_bytes());
    encode_frame(layout, FrameHeader{}, values.view, seed, frame.span());
  }
  for (Memory& frame : frames)
    starts.push_back(bytes(frame));
  for (DType dtype : kDTypes)
    for (bool accumulate : {false, true}) {
      Memory here = data::tensor(kind, dtype, layout.count(), seed, skew(dtype, seed)),
             there = here, work(lane::work_bytes(layout, count));
      for (std::size_t i = 0; i < count; ++i)
        decode_frame(layout, frames[i].span(), here.data(), dtype, accumulate || i != 0);
      emulation::Launcher launcher = launcher_of(seed);
      const FloatEnvironment environment;
      lane::decode_payloads(launcher, layout, starts, there.data(), dtype, accumulate, bytes(work));
      CHECK(there == here);
    }
}

inline void check_case(const Layout& layout, const Case& c) {
  const auto values = [&] {
    return Values(layout, c.kind, c.dtype, c.residual_dtype, c.keep, c.seed);
  };
  const Values expected_values = values(), got_values = values();
  const std::uint64_t key = c.seed * 0x9e3779b97f4a7c15;
  FrameHeader header;
  header.step = c.seed;
  Memory expected(layout.frame_bytes()), got(layout.frame_bytes());
  const std::size_t nonfinite =
      encode_frame(layout, header, expected_values.view, key, expected.span());
  CHECK(emulate_encode(launcher_of(c.seed), layout, header, got_values.view, key, got) ==
        nonfinite);
  CHECK(got == expected);
  CHECK(got_values.same_residuals(expected_values));
  for (DType dtype : kDTypes)
    for (bool accumulate : {false, true}) {
      Memory here = data::tensor(c.kind, dtype, layout.count(), c.seed + 2, skew(dtype, c.seed)),
             there = here;
      decode_frame(layout, expected.span(), here.data(), dtype, accumulate);
      emulate_decode(launcher_of(c.seed), layout, expected, there, dtype, accumulate);
      CHECK(there == here);
    }
}

// Frames of several layouts that are encoded, and decoded, by the same launches must have the bits
// of each alone.
inline void check_together(const std::vector<Layout>& layouts, const std::vector<Case>& cases) {
  std::vector<std::unique_ptr<Values>> expected_values, got_values;
  std::vector<Memory> expected, got, here, there;
  std::vector<std::uint64_t> expected_counts, counts(layouts.size(), ~std::uint64_t{0});
  std::vector<Encoding> encodings;
  std::vector<Decoding> decodings;
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const Layout& layout = layouts[i];
    const Case& c = cases[i];
    for (auto* values : {&expected_values, &got_values})
      values->push_back(
          std::make_unique<Values>(layout, c.kind, c.dtype, c.residual_dtype, c.keep, c.seed));
    for (auto* frames : {&expected, &got})
      frames->emplace_back(layout.frame_bytes());
    FrameHeader header;
    header.step = c.seed;
    expected_counts.push_back(
        encode_frame(layout, header, expected_values[i]->view, c.seed, expected[i].span()));
    here.push_back(data::tensor(c.kind, c.dtype, layout.count(), c.seed, skew(c.dtype, c.seed)));
    there.push_back(here.back());
    decode_frame(layout, expected[i].span(), here[i].data(), c.dtype, c.seed % 2 != 0);
  }
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const Case& c = cases[i];
    encodings.push_back(
        {&layouts[i], got_values[i]->view, c.seed, c.seed, bytes(got[i]), &counts[i]});
    decodings.push_back({&layouts[i], bytes(got[i]), there[i].data(), c.dtype, c.seed % 2 != 0});
  }
  const FloatEnvironment environment;
  emulation::Launcher launcher = launcher_of(layouts.size());
  Memory work(lane::work_bytes(std::span<const Encoding>(encodings)));
  lane::encode_payloads(launcher, std::span<const Encoding>(encodings), bytes(work));
  CHECK(counts == expected_counts);
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const std::size_t payload = layouts[i].payload_bytes();
    CHECK(std::memcmp(got[i].data() + kHeaderBytes, expected[i].data() + kHeaderBytes, payload) ==
          0);
    CHECK(got_values[i]->same_residuals(*expected_values[i]));
  }
  Memory more_work(lane::work_bytes(std::span<const Decoding>(decodings)));
  lane::decode_payloads(launcher, std::span<const Decoding>(decodings), bytes(more_work));
  for (std::size_t i = 0; i < layouts.size(); ++i)
    CHECK(there[i] == here[i]);
}

// Walks through the choices with numbers that have no common factors.
inline Case case_of(Kind kind, std::uint64_t seed) {
  return {kind, kDTypes[seed % 3], seed % 7 < 4 ? DType::fp32 : DType::bf16, kKeeps[seed % 5],
          seed};
}

} // namespace warp_cases
