// The code of the CUDA kernels, run lane by lane on the host: the bits of the CPU kernels, whatever
// the number of warps and the order of lanes, and no access outside the arrays.
#include "warp_cases.hpp"

namespace {

using namespace thinwire;
using namespace warp_cases;

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

TEST(frames_decoded_together_give_the_bits_of_one_after_another) {
  std::uint64_t seed = 0;
  for (const CodecSpec& spec : data::every_spec())
    for (std::size_t count : {1u, 2u, 4u, lane::kMostFrames + 1}) {
      const Kind kind = data::kKinds[++seed % std::size(data::kKinds)];
      check::context = data::text(spec) + " frames=" + std::to_string(count);
      check_frames(Layout(1003 + seed % 300, spec), kind, count, seed);
    }
}

TEST(frames_of_several_layouts_in_the_same_launches) {
  std::uint64_t seed = 0;
  for (std::size_t frames : {2u, 7u, 200u}) { // few, and more than parameters have room for
    std::vector<Layout> layouts;
    std::vector<Case> cases;
    for (std::size_t i = 0; i < frames; ++i) {
      const std::vector<CodecSpec> specs = data::every_spec();
      const CodecSpec &first = specs[seed % specs.size()],
                      &second = specs[(seed + 1) % specs.size()];
      layouts.push_back(Layout({{100 + 37 * i % 1500, first}, {i % 3 * 300, second}}, 7));
      ++seed;
      cases.push_back(case_of(data::kKinds[seed % std::size(data::kKinds)], seed));
    }
    check::context = std::to_string(frames) + " frames";
    check_together(layouts, cases);
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

TEST(a_frame_of_more_segments_than_parameters_have_room_for) {
  std::vector<SegmentSpec> segments;
  for (int round = 0; round < 3; ++round)
    for (const CodecSpec& spec : data::every_spec())
      segments.push_back({13 * segments.size() % 700, spec});
  for (std::size_t i = 0; i < 3 * lane::Batch<EncodeArgs>::kFew; ++i)
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

// The sample of an odd step sees none of the great values, half as many again as a frame holds:
// groups find no room for their entries, or lie beyond what is sent.
TEST(topk_with_a_sample_that_misleads) {
  for (const char* coded : {"sign", "int8", "fp16"})
    for (std::uint64_t step : {1u, 3u, 5u, 7u, 9u, 11u, 13u}) {
      check::context = std::string(coded) + " step=" + std::to_string(step);
      check_case(Layout(2 * TopK::kSampleAll + 9000, CodecSpec::make("topk", 0, "", 0.01, coded)),
                 case_of(Kind::even_chunks, step));
    }
}

} // namespace
