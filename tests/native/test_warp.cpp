// The code of the CUDA kernels, run lane by lane on the host: the bits of the CPU kernels, whatever
// the number of warps and the order of lanes, and no access outside the arrays.
#include "host_warp.hpp"

#include "core/error.hpp"
#include "core/float_env.hpp"

#include <optional>

namespace {

using namespace thinwire;
using data::Kind;
using data::Memory;

constexpr DType kDTypes[] = {DType::fp32, DType::fp16, DType::bf16};

// How the residuals of a case go in and out.
enum class Keep { nothing, in_place, apart, held, out_only };
constexpr Keep kKeeps[] = {Keep::nothing, Keep::in_place, Keep::apart, Keep::held, Keep::out_only};

std::byte* bytes(Memory& memory) { return memory.span().data(); }

// A tensor and its residuals, one a segment.
class Values {
public:
  Values(const Layout& layout, Kind kind, DType dtype, DType residual_dtype, Keep keep,
         std::uint64_t seed)
      : x_(data::tensor(kind, dtype, layout.count(), seed)) {
    for (const Segment& segment : layout.segments()) {
      const Memory residual = data::tensor(Kind::ordinary, residual_dtype, segment.count, seed + 1);
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
std::size_t emulate_encode(emulation::Launcher launcher, const Layout& layout,
                           const FrameHeader& header, const FrameValues& values, std::uint64_t key,
                           Memory& frame) {
  Memory work(lane::work_bytes(layout));
  const FloatEnvironment environment;
  lane::encode_payload(launcher, layout, values, key, header.step, bytes(frame), bytes(work));
  std::uint64_t nonfinite;
  std::memcpy(&nonfinite, frame.data(), sizeof nonfinite);
  finish_frame(layout, header, values.dtype, nonfinite, bytes(frame));
  return nonfinite;
}

void emulate_decode(emulation::Launcher launcher, const Layout& layout, Memory& frame, Memory& out,
                    DType dtype, bool accumulate) {
  Memory work(lane::work_bytes(layout));
  const FloatEnvironment environment;
  lane::decode_payload(launcher, layout, bytes(frame), out.data(), dtype, accumulate, bytes(work));
}

struct Case {
  Kind kind;
  DType dtype, residual_dtype;
  Keep keep;
  std::uint64_t seed;
};

emulation::Launcher launcher_of(std::uint64_t seed) {
  constexpr std::size_t kWarps[] = {1, 3, 64};
  return emulation::Launcher(kWarps[seed % 3], seed % 4 < 2);
}

void check_case(const Layout& layout, const Case& c) {
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
      Memory here = data::tensor(c.kind, dtype, layout.count(), c.seed + 2), there = here;
      decode_frame(layout, expected.span(), here.data(), dtype, accumulate);
      emulate_decode(launcher_of(c.seed), layout, expected, there, dtype, accumulate);
      CHECK(there == here);
    }
}

// Walks through the choices with numbers that have no common factors.
Case case_of(Kind kind, std::uint64_t seed) {
  return {kind, kDTypes[seed % 3], seed % 7 < 4 ? DType::fp32 : DType::bf16, kKeeps[seed % 5],
          seed};
}

// Around whole warps, rows, blocks, units and groups.
std::vector<std::size_t> lengths(const CodecSpec& spec) {
  const std::size_t unit = spec.has_block() ? spec.block : lane::kCastUnit;
  return {0, 1, 15, 31, 32, 33, 255, 256, 257, unit - 1, unit, unit + 1, 2 * unit + 37, 1003};
}

TEST(the_cuda_kernels_give_the_bits_of_the_cpu) {
  std::uint64_t seed = 0;
  for (const CodecSpec& spec : data::every_spec())
    for (std::size_t n : lengths(spec))
      for (Kind kind : data::kKinds) {
        check::context =
            data::text(spec) + " n=" + std::to_string(n) + " seed=" + std::to_string(++seed);
        check_case(Layout(n, spec), case_of(kind, seed));
      }
}

// A scale has too few bits to show how its sum was made.
TEST(sum16_adds_in_the_written_order) {
  data::Random random(1);
  for (std::size_t n : {0u, 1u, 15u, 16u, 17u, 100u, 1000u}) {
    std::vector<float> values;
    for (std::size_t i = 0; i < n; ++i)
      values.push_back(data::value(Kind::ordinary, i, random));
    float sums[16] = {};
    for (std::size_t i = 0; i < n; ++i)
      sums[i % 16] += values[i];
    for (std::size_t half = 8; half > 0; half /= 2)
      for (std::size_t j = 0; j < half; ++j)
        sums[j] += sums[j + half];
    const auto value = [&](std::size_t i) { return lane::F::splat(values[i]); };
    for (bool backward : {false, true})
      CHECK(float_bits(lane::sum16(emulation::Warp(backward), n, value).v) == float_bits(sums[0]));
  }
}

TEST(a_frame_of_more_segments_than_a_launch_takes) {
  std::vector<SegmentSpec> segments;
  for (int round = 0; round < 3; ++round)
    for (const CodecSpec& spec : data::every_spec())
      segments.push_back({13 * segments.size() % 700, spec});
  for (std::size_t i = 0; i < 2 * lane::kBatch; ++i)
    segments.push_back({500 + i, CodecSpec::make("int4")});
  for (std::uint64_t seed = 1; seed < 16; ++seed)
    check_case(Layout(segments, 7), case_of(Kind::ordinary, seed));
}

TEST(topk_over_several_spans_and_samples) {
  for (std::size_t n : {65536ul, 65537ul, 131137ul, lane::kSpan * TopK::kGroup + 1,
                        2 * lane::kSpan * TopK::kGroup + 700})
    for (double density : {0.000001, 0.03}) {
      check::context = "n=" + std::to_string(n) + " density=" + std::to_string(density);
      check_case(Layout(n, CodecSpec::make("topk", 0, "", density)), case_of(Kind::sparse, n));
    }
}

// Values that reach every row's limit and the frame's.
TEST(topk_with_more_candidates_than_room) {
  for (const char* coded : {"sign", "int8", "fp16"})
    for (double density : {0.01, 0.1, 0.5})
      for (std::size_t n : {256u, 1024u, 1025u, 3000u}) {
        check::context =
            std::string(coded) + " n=" + std::to_string(n) + " density=" + std::to_string(density);
        check_case(Layout(n, CodecSpec::make("topk", 0, "", density, coded)),
                   case_of(Kind::ties, n));
      }
}

} // namespace
