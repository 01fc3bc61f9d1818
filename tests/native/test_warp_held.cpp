// Segments of which only the device knows whether they are held: the code of the CUDA kernels finds
// out from a flag, and gives the bits of the CPU, which was told.
#include "warp_cases.hpp"

#include "dispatch/warp_sums.hpp"

namespace {

using namespace thinwire;
using namespace warp_cases;

// Flags as a search for values that are not zero leaves them, and the CPU's list. The last segment
// has none: it is never held.
struct Held {
  Held(const Layout& layout, std::uint64_t seed) {
    for (std::size_t i = 0; i < layout.segments().size(); ++i) {
      held.push_back((seed + i) % 3 != 0 && i + 1 < layout.segments().size());
      words.push_back(!held.back());
    }
    for (const std::uint32_t& word : words)
      used.push_back(&word);
    used.back() = nullptr;
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  std::vector<std::uint8_t> held;
  std::vector<std::uint32_t> words;
  std::vector<const std::uint32_t*> used;
};

// Every codec, some values along a basis.
struct Segments {
  Segments() : vectors(4 * 50) {
    begin_basis(50, 4, /*key=*/9, vectors.data());
    std::vector<SegmentSpec> specs;
    for (const CodecSpec& spec : data::every_spec()) {
      specs.push_back({1003 + specs.size(), spec, {}});
      specs.push_back({65 * 50, spec, {50, 4, vectors.data()}});
    }
    specs.push_back({333, CodecSpec::make("bf16"), {}});
    layout.emplace(specs, 7);
  }

  std::vector<float> vectors;
  std::optional<Layout> layout;
};

void check_encoding(const Layout& layout, const FrameValues& told, const FrameValues& found,
                    std::uint64_t seed) {
  FrameHeader header;
  header.step = seed;
  Memory expected(layout.frame_bytes()), got(layout.frame_bytes());
  const std::size_t nonfinite = encode_frame(layout, header, told, seed, expected.span());
  CHECK(emulate_encode(launcher_of(seed), layout, header, found, seed, got) == nonfinite);
  CHECK(got == expected);
}

template <class Fn> void for_each_case(Fn&& f) {
  const Segments segments;
  const Layout& layout = *segments.layout;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    const DType residual_dtype = seed % 2 ? DType::fp32 : DType::bf16;
    const Keep keep = seed % 4 < 2 ? Keep::in_place : Keep::apart;
    Values told(layout, data::kKinds[seed % std::size(data::kKinds)], DType::fp32, residual_dtype,
                keep, seed),
        found(layout, data::kKinds[seed % std::size(data::kKinds)], DType::fp32, residual_dtype,
              keep, seed);
    const Held flags(layout, seed);
    told.view.held = flags.held;
    found.view.held = {};
    found.view.used = flags.used;
    check::context = "seed=" + std::to_string(seed);
    f(layout, told, found, flags, seed);
  }
}

TEST(a_flag_holds_a_segment_as_the_list_does) {
  for_each_case([](const Layout& layout, const Values& told, const Values& found, const Held&,
                   std::uint64_t seed) {
    check_encoding(layout, told.view, found.view, seed);
    CHECK(found.same_residuals(told));
  });
}

// The residual is in a sum already, unless it was held.
TEST(a_flag_adds_a_residual_to_what_encoding_a_sum_loses) {
  for_each_case(
      [](const Layout& layout, Values& told, Values& found, const Held& flags, std::uint64_t seed) {
        std::vector<void*> kept(told.view.residual_in.begin(), told.view.residual_in.end());
        for (std::size_t i = 0; i < kept.size(); ++i)
          if (!flags.held[i])
            kept[i] = nullptr;
        told.view.residual_in = kept;
        found.view.residual_in_x = true;
        check_encoding(layout, told.view, found.view, seed);
        CHECK(found.same_residuals(told));
      });
}

TEST(a_flag_leaves_a_residual_out_of_a_sum) {
  for_each_case([](const Layout& layout, const Values& told, const Values& found, const Held&,
                   std::uint64_t seed) {
    Memory expected(layout.count() * sizeof(float)), got(layout.count() * sizeof(float)),
        work(lane::sum_work_bytes(layout.segments().size()));
    fold(layout, told.view, reinterpret_cast<float*>(expected.data()));
    emulation::Launcher launcher = launcher_of(seed);
    const FloatEnvironment environment;
    const Folding folding{&layout, found.view, reinterpret_cast<float*>(got.data())};
    lane::fold(launcher, std::span(&folding, 1), bytes(work));
    CHECK(got == expected);
  });
}

} // namespace
