// Every codec on every CPU target: the scalar target's bits, nothing lost, and no access outside
// the arrays (which are exactly as long as they must be, for AddressSanitizer).
#include "check.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "data.hpp"
#include "dispatch/frame_codec.hpp"

#include <cmath>
#include <optional>

namespace {

using namespace thinwire;
using data::Kind;
using data::Memory;

enum class Keep { nothing, in_place, apart, held, out_only };
constexpr Keep kKeeps[] = {Keep::nothing, Keep::in_place, Keep::apart, Keep::held, Keep::out_only};
constexpr DType kDTypes[] = {DType::fp32, DType::fp16, DType::bf16};

struct Case {
  CodecSpec spec;
  std::size_t n;
  Kind kind;
  DType dtype, residual_dtype;
  Keep keep;
  float scale;
  std::uint64_t seed;
};

std::string text(const Case& c) {
  return data::text(c.spec) + " n=" + std::to_string(c.n) +
         " kind=" + std::to_string(static_cast<int>(c.kind)) +
         " dtype=" + std::to_string(static_cast<int>(c.dtype)) +
         " residual=" + std::to_string(static_cast<int>(c.residual_dtype)) +
         " keep=" + std::to_string(static_cast<int>(c.keep)) + " scale=" + std::to_string(c.scale);
}

struct Encoded {
  Memory frame, residual;
  std::size_t nonfinite;
  bool operator==(const Encoded&) const = default;
};

Memory residual_of(const Case& c) {
  return data::tensor(Kind::ordinary, c.residual_dtype, c.n, c.seed + 1);
}

Encoded encode(const Case& c, const Layout& layout) {
  const std::size_t skew = c.seed % 2; // a frame may start at any byte
  const Memory x = data::tensor(c.kind, c.dtype, c.n, c.seed);
  Memory before = residual_of(c), after = c.keep == Keep::in_place ? Memory(0) : before;
  Memory frame(layout.frame_bytes(), skew);
  Memory& target = c.keep == Keep::in_place ? before : after;
  void *in = before.data(), *out = target.data();
  const std::uint8_t held = c.keep == Keep::held;
  FrameValues values{.x = x.data(),
                     .dtype = c.dtype,
                     .scale = c.scale,
                     .residual_dtype = c.residual_dtype,
                     .held = {&held, 1}};
  if (c.keep != Keep::nothing)
    values.residual_out = {&out, 1};
  if (c.keep != Keep::nothing && c.keep != Keep::out_only)
    values.residual_in = {&in, 1};
  FrameHeader header;
  header.step = c.seed;
  const std::size_t nonfinite =
      encode_frame(layout, header, values, c.seed * 0x9e3779b97f4a7c15, frame.span());
  return {frame, target, nonfinite};
}

Memory decode(const Case& c, const Layout& layout, Memory& frame, DType dtype, bool accumulate) {
  Memory out = data::tensor(c.kind, dtype, c.n, c.seed + 2);
  const FrameHeader header = decode_frame(layout, frame.span(), out.data(), dtype, accumulate);
  CHECK(header.count == c.n && header.step == c.seed);
  return out;
}

// y = decoded + new residual, as closely as one fp32 subtraction gives it, wherever the decoded
// value is finite.
void check_nothing_is_lost(const Case& c, const Encoded& encoded, const Memory& decoded) {
  const Memory x = data::tensor(c.kind, c.dtype, c.n, c.seed), before = residual_of(c);
  bool exact = true, cleared = true;
  for (std::size_t i = 0; i < c.n; ++i) {
    const float d = data::get(decoded, DType::fp32, i),
                r = data::get(encoded.residual, c.residual_dtype, i);
    float y = data::get(x, c.dtype, i) * c.scale;
    const float old = data::get(before, c.residual_dtype, i);
    if (c.keep == Keep::in_place || c.keep == Keep::apart)
      y += old;
    const float kept = c.keep == Keep::held ? old : 0;
    if (std::isfinite(d))
      exact &= r == kept + (y - d);
    else
      cleared &= r == kept;
  }
  CHECK(exact);
  CHECK(cleared);
}

void check_case(const Case& c) {
  check::context = text(c);
  const Layout layout(c.n, c.spec);
  force_target("scalar");
  Encoded expected = encode(c, layout);
  CHECK((open_frame(expected.frame.span()).flags == kFlagNonfinite) == (expected.nonfinite > 0));
  const Memory decoded = decode(c, layout, expected.frame, DType::fp32, false);
  if (c.keep != Keep::nothing && c.residual_dtype == DType::fp32)
    check_nothing_is_lost(c, expected, decoded);
  for (Target target : available_targets()) {
    check::context = text(c) + " on " + name(target);
    force_target(name(target));
    CHECK(encode(c, layout) == expected);
    for (DType dtype : kDTypes)
      for (bool accumulate : {false, true}) {
        const Memory here = decode(c, layout, expected.frame, dtype, accumulate);
        force_target("scalar");
        CHECK(here == decode(c, layout, expected.frame, dtype, accumulate));
        force_target(name(target));
      }
  }
  force_target("");
}

// Lengths around whole vectors, rows, blocks and groups.
std::vector<std::size_t> lengths(const CodecSpec& spec) {
  const std::size_t unit = spec.has_block() ? spec.block : spec.has_density() ? TopK::kGroup : 16;
  return {0, 1, 15, 16, 17, 31, 33, 255, 256, 257, unit - 1, unit, unit + 1, 2 * unit + 37, 1003};
}

TEST(all_targets_give_the_bits_of_the_scalar_one) {
  std::uint64_t seed = 0;
  for (const CodecSpec& spec : data::every_spec())
    for (std::size_t n : lengths(spec))
      for (Kind kind : data::kKinds) {
        ++seed; // walks through the other choices, whose numbers have no common factors
        check_case({spec, n, kind, kDTypes[seed % 3], seed % 7 < 4 ? DType::fp32 : DType::bf16,
                    kKeeps[seed % 5], seed % 11 < 6 ? 1.0f : 0.3f, seed});
      }
}

TEST(topk_samples_long_inputs) {
  const CodecSpec spec = CodecSpec::make("topk");
  for (std::size_t n : {65536u, 65537u, 131137u, 200000u})
    for (std::uint64_t seed : {1u, 2u})
      check_case({spec, n, Kind::ordinary, DType::fp32, DType::fp32, Keep::in_place, 1.0f, seed});
}

TEST(a_plan_of_all_codecs) {
  std::vector<SegmentSpec> segments;
  for (const CodecSpec& spec : data::every_spec())
    segments.push_back({300 + 17 * segments.size(), spec});
  segments.push_back({0, CodecSpec::make("int8")});
  const Layout layout(segments, 0xabcd);
  const Memory x = data::tensor(Kind::ordinary, DType::bf16, layout.count(), 1);
  std::optional<Memory> expected, folded_before;
  for (Target target : available_targets()) {
    force_target(name(target));
    std::vector<Memory> residuals;
    residuals.reserve(segments.size()); // so that their addresses stay
    std::vector<void*> pointers;
    std::vector<std::uint8_t> held;
    for (const Segment& segment : layout.segments()) {
      residuals.push_back(data::tensor(Kind::tiny, DType::fp32, segment.count, 2));
      pointers.push_back(residuals.size() % 3 == 0 ? nullptr : residuals.back().data());
      held.push_back(residuals.size() % 4 == 0);
    }
    const FrameValues values{.x = x.data(),
                             .dtype = DType::bf16,
                             .scale = 0.5f,
                             .residual_in = pointers,
                             .residual_out = pointers,
                             .held = held};
    Memory folded(4 * layout.count()), frame(layout.frame_bytes()), out(4 * layout.count());
    fold(layout, values, reinterpret_cast<float*>(folded.data()));
    encode_frame(layout, {}, values, 1, frame.span());
    decode_frame(layout, frame.span(), out.data(), DType::fp32, false);
    Memory all(frame.size() + out.size());
    std::memcpy(all.data(), frame.data(), frame.size());
    std::memcpy(all.data() + frame.size(), out.data(), out.size());
    if (!expected)
      expected.emplace(all), folded_before.emplace(folded);
    CHECK(all == *expected);
    CHECK(folded == *folded_before);
  }
  force_target("");
}

TEST(layouts_too_large_are_refused) {
  const CodecSpec int8 = CodecSpec::make("int8");
  CHECK_THROWS(InvalidArgument, "2^40", Layout((std::size_t{1} << 40) + 1, int8));
  CHECK_THROWS(InvalidArgument, "2^40", Layout({{std::size_t{1} << 40, int8}, {1, int8}}, 1));
  CHECK_THROWS(InvalidArgument, "2^40", Layout(~std::size_t{0}, int8));
  CHECK(Layout(std::size_t{1} << 40, int8).frame_bytes() > std::size_t{1} << 40);
}

TEST(what_is_not_finite_is_counted) {
  for (Target target : available_targets()) {
    force_target(name(target));
    for (DType dtype : kDTypes)
      for (std::size_t n : {0u, 1u, 16u, 33u, 200u}) {
        const Memory zeros = data::tensor(Kind::zeros, dtype, n, 1),
                     some = data::tensor(Kind::special, dtype, n, 2);
        std::size_t expected = 0;
        for (std::size_t i = 0; i < n; ++i)
          expected += !std::isfinite(data::get(some, dtype, i));
        CHECK(is_zero(zeros.data(), n, dtype));
        CHECK(is_zero(some.data(), n, dtype) == (n == 0));
        CHECK(count_nonfinite(some.data(), n, dtype) == expected);
      }
  }
  force_target("");
}

} // namespace
