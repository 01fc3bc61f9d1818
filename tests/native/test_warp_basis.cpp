// The code of the CUDA kernels of shared bases, run lane by lane on the host: the bits of the CPU
// kernels, whatever the number of warps and the order of lanes, and no access outside the arrays.
#include "warp_cases.hpp"

#include "dispatch/basis_codec.hpp"
#include "dispatch/warp_lesson.hpp"

#include <cmath>

namespace {

using namespace thinwire;
using namespace warp_cases;

struct Shape {
  std::size_t rows, columns, rank;
};
// Whole groups and tiles of rows and parts of them, columns beside multiples of 16 and more than a
// tile has, more vectors than are taken together.
constexpr Shape kShapes[] = {{1, 64, 1},   {64, 48, 8},  {65, 50, 4}, {130, 33, 9},
                             {9, 100, 32}, {129, 17, 2}, {5, 530, 3}, {2, 16, 16}};

std::string text(const Shape& s) {
  return std::to_string(s.rows) + " x " + std::to_string(s.columns) + " rank " +
         std::to_string(s.rank);
}

// The vectors of a first step.
struct Vectors {
  explicit Vectors(const Shape& s) : values(s.rank * s.columns) {
    begin_basis(s.columns, s.rank, s.rows, values.data());
    basis = {s.columns, s.rank, values.data()};
  }
  Vectors(const Vectors&) = delete;
  Vectors& operator=(const Vectors&) = delete;

  std::vector<float> values;
  Basis basis;
};

// What encoders do differently, at their defaults.
std::vector<CodecSpec> specs() {
  std::vector<CodecSpec> found = codec_defaults();
  found.push_back(CodecSpec::make("int4", 0, "stochastic"));
  for (const char* values : {"int8", "fp16"})
    found.push_back(CodecSpec::make("topk", 0, "", 0.1, values));
  return found;
}

TEST(frames_along_a_basis_have_the_bits_of_the_cpu) {
  std::uint64_t seed = 0;
  for (const Shape& shape : kShapes) {
    const Vectors vectors(shape);
    for (const CodecSpec& spec : specs()) {
      const Layout layout({{shape.rows * shape.columns, spec, vectors.basis}}, 7);
      const Kind kind = data::kKinds[++seed % std::size(data::kKinds)];
      check::context = data::text(spec) + " " + text(shape) + " seed=" + std::to_string(seed);
      check_case(layout, case_of(kind, seed));
    }
  }
}

TEST(frames_along_several_bases_in_the_same_launches) {
  std::vector<std::unique_ptr<Vectors>> vectors;
  std::vector<Layout> layouts;
  std::vector<Case> cases;
  std::uint64_t seed = 0;
  for (const CodecSpec& spec : specs())
    for (const Shape& shape : kShapes) {
      vectors.push_back(std::make_unique<Vectors>(shape));
      layouts.push_back(Layout(
          {{shape.rows * shape.columns, spec, vectors.back()->basis}, {++seed % 700, spec}}, 7));
      cases.push_back(case_of(data::kKinds[seed % std::size(data::kKinds)], seed));
    }
  check_together(layouts, cases);
}

TEST(every_kind_of_value_along_a_basis) {
  std::uint64_t seed = 0;
  const Shape shape = {67, 20, 9};
  const Vectors vectors(shape);
  for (const char* name : {"sign1", "topk", "int4", "bf16"})
    for (Kind kind : data::kKinds)
      for (int round = 0; round < 5; ++round) { // all of kKeeps
        const Layout layout({{shape.rows * shape.columns, CodecSpec::make(name), vectors.basis}},
                            7);
        check::context = std::string(name) + " seed=" + std::to_string(++seed);
        check_case(layout, case_of(kind, seed));
      }
}

TEST(frames_along_a_basis_decoded_together) {
  constexpr std::size_t kMost = lane::basis::kFramesAtOnce;
  std::uint64_t seed = 0;
  for (const Shape& shape : kShapes) {
    const Vectors vectors(shape);
    for (const CodecSpec& spec : specs()) {
      if (++seed % 3 != 0) // every codec, with some of the shapes
        continue;
      const Layout layout(
          {{shape.rows * shape.columns, spec, vectors.basis}, {37, CodecSpec::make("int4")}}, 7);
      const Kind kind = data::kKinds[seed % std::size(data::kKinds)];
      check::context = data::text(spec) + " " + text(shape) + " seed=" + std::to_string(seed);
      check_frames(layout, kind, seed % 2 ? kMost : kMost + 1, seed);
    }
  }
}

TEST(a_frame_of_more_bases_than_a_launch_takes) {
  const Vectors large(kShapes[2]), small({5, 24, 3});
  std::vector<SegmentSpec> segments = {{65 * 50, CodecSpec::make("topk"), large.basis}};
  for (std::size_t i = 0; i <= lane::Batch<lane::basis::RowArgs>::kFew; ++i) {
    segments.push_back({5 * 24, CodecSpec::make(i % 2 ? "topk" : "sign1"), small.basis});
    segments.push_back({30 + i, CodecSpec::make("int4")});
    segments.push_back({3, CodecSpec::make("sign1"), {3, 1, small.basis.vectors}}); // travels raw
  }
  for (std::uint64_t seed = 1; seed < 4; ++seed)
    check_case(Layout(segments, 7), case_of(Kind::ordinary, seed));
}

// Each frame has items of its own: more than there are segments.
TEST(frames_of_many_bases_decoded_together) {
  const Vectors small({5, 24, 3});
  const std::vector<SegmentSpec> segments(lane::Batch<DecodeArgs>::kFew,
                                          {5 * 24, CodecSpec::make("sign1"), small.basis});
  check_frames(Layout(segments, 7), Kind::ordinary, lane::basis::kFramesAtOnce, 1);
}

// What a lesson leaves behind.
struct Learnt {
  Memory matrix, next, after;
  bool operator==(const Learnt&) const = default;
};

// A matrix to learn from. Some hold nothing to learn, some what cannot be learnt.
struct Lessons {
  Lessons(const Shape& shape, Kind kind, DType dtype, std::uint64_t seed)
      : vectors(shape), before(data::tensor(Kind::ordinary, DType::bf16, count(shape), seed + 1)),
        expected(learnt(shape, kind, dtype, seed)), got(expected),
        lesson{.basis = vectors.basis,
               .matrix = got.matrix.data(),
               .dtype = dtype,
               .rows = shape.rows,
               .next = reinterpret_cast<float*>(got.next.data()),
               .share = 0.25f,
               .before = reinterpret_cast<const std::uint16_t*>(before.data()),
               .after =
                   seed % 3 == 0 ? nullptr : reinterpret_cast<std::uint16_t*>(got.after.data())} {}

  // The same on the CPU.
  void expect() {
    std::vector<float> moments(vectors.values.size());
    learn_basis(vectors.basis, expected.matrix.data(), lesson.dtype, lesson.rows, moments.data());
    turn_basis(vectors.basis, moments.data(), reinterpret_cast<float*>(expected.next.data()));
    if (lesson.after)
      spread_rest(vectors.basis, expected.matrix.data(), lesson.dtype, lesson.rows, lesson.share,
                  lesson.before, reinterpret_cast<std::uint16_t*>(expected.after.data()));
  }

  Vectors vectors;
  Memory before;
  Learnt expected, got;
  Lesson lesson;

private:
  static std::size_t count(const Shape& shape) { return shape.rows * shape.columns; }
  static Learnt learnt(const Shape& shape, Kind kind, DType dtype, std::uint64_t seed) {
    return {data::tensor(kind, dtype, count(shape), seed),
            Memory(shape.rank * shape.columns * sizeof(float)),
            Memory(count(shape) * sizeof(std::uint16_t))};
  }
};

TEST(lessons_have_the_bits_of_the_cpu) {
  std::uint64_t seed = 0;
  for (const DType dtype : kDTypes) {
    std::vector<std::unique_ptr<Lessons>> all;
    std::vector<Lesson> lessons;
    for (const Shape& shape : kShapes)
      for (Kind kind : data::kKinds) {
        all.push_back(std::make_unique<Lessons>(shape, kind, dtype, ++seed));
        lessons.push_back(all.back()->lesson);
      }
    Memory work(lane::basis::work_bytes(lessons));
    {
      const FloatEnvironment environment;
      emulation::Launcher launcher = launcher_of(seed);
      lane::basis::learn(launcher, std::span<const Lesson>(lessons), bytes(work));
    }
    for (const auto& one : all) {
      check::context =
          "lesson " + std::to_string(&one - all.data()) + " seed=" + std::to_string(seed);
      one->expect();
      CHECK(one->got.next == one->expected.next);
      CHECK(one->got.matrix == one->expected.matrix);
      CHECK(one->got.after == one->expected.after);
    }
  }
}

// What is handed over may take the place of what was kept.
TEST(pending_parts_in_place) {
  Lessons one({130, 33, 9}, Kind::ordinary, DType::fp32, 1);
  one.expect();
  one.lesson.after = reinterpret_cast<std::uint16_t*>(one.before.data());
  Memory work(lane::basis::work_bytes(one.lesson));
  emulation::Launcher launcher = launcher_of(2);
  lane::basis::learn(launcher, std::span<const Lesson>(&one.lesson, 1), bytes(work));
  CHECK(one.before == one.expected.after);
  CHECK(one.got.matrix == one.expected.matrix);
}

// Products that vanish leave -0, but not where the last columns are filled up with zeros.
TEST(the_last_columns_are_filled_up) {
  const Shape shape = {5, 17, 1};
  Lessons one(shape, Kind::zeros, DType::fp32, 1);
  std::fill(one.vectors.values.begin(), one.vectors.values.end(), 0.25f);
  for (std::size_t i = 0; i < shape.rows * shape.columns; ++i) {
    const float v = i % shape.columns == 16 ? -0.0f : -0x1p-149f;
    data::set(one.got.matrix, DType::fp32, i, v);
    data::set(one.expected.matrix, DType::fp32, i, v);
    data::set(one.before, DType::bf16, i, -0.0f);
  }
  one.expect();
  Memory work(lane::basis::work_bytes(one.lesson));
  const FloatEnvironment environment;
  emulation::Launcher launcher = launcher_of(1);
  lane::basis::learn(launcher, std::span<const Lesson>(&one.lesson, 1), bytes(work));
  CHECK(std::signbit(data::get(one.got.after, DType::bf16, 16)));
  CHECK(one.got.after == one.expected.after);
}

// Moments that the vectors cannot follow: they stay as they are, to the bit.
TEST(vectors_that_would_depend_on_each_other_stay) {
  const Shape shape = {40, 16, 2};
  Lessons one(shape, Kind::zeros, DType::fp32, 1);
  auto* vectors = one.vectors.values.data();
  std::copy(vectors, vectors + shape.columns, vectors + shape.columns); // twice the same
  for (std::size_t i = 0; i < shape.rows * shape.columns; ++i)
    data::set(one.got.matrix, DType::fp32, i, vectors[i % shape.columns]);
  one.lesson.after = nullptr;
  Memory work(lane::basis::work_bytes(one.lesson));
  emulation::Launcher launcher = launcher_of(3);
  lane::basis::learn(launcher, std::span<const Lesson>(&one.lesson, 1), bytes(work));
  CHECK(std::memcmp(one.got.next.data(), vectors, one.got.next.size()) == 0);
}

} // namespace
