// The code of the CUDA kernels of factors, run lane by lane on the host: the bits of the CPU
// kernels, whatever the number of warps and the order of lanes, and no access outside the arrays.
#include "warp_cases.hpp"

#include "dispatch/warp_factors.hpp"

#include <algorithm>
#include <cmath>
#include <deque>

namespace {

using namespace thinwire;
using namespace warp_cases;

struct Shape {
  std::size_t rows, columns, rank;
};
// One row, one column, one more than a warp; whole groups and tiles of rows and parts of them;
// columns beside multiples of 16 and more than a tile has; more vectors than are taken together.
constexpr Shape kShapes[] = {{1, 1, 1},    {1, 64, 1},   {64, 1, 1},   {65, 33, 5}, {64, 48, 8},
                             {130, 33, 9}, {40, 70, 32}, {129, 17, 2}, {5, 530, 3}, {200, 96, 16}};
constexpr Shape kLarge[] = {{3, 1 << 15, 2}, {1000, 40, 4}};

std::string text(const Shape& s) {
  return std::to_string(s.rows) + " x " + std::to_string(s.columns) + " rank " +
         std::to_string(s.rank);
}

// What travels lies aligned to a float alone: at the places of a stand-in.
std::size_t float_skew(std::uint64_t seed) { return seed % 4 * sizeof(float); }

float* floats(Memory& memory) { return reinterpret_cast<float*>(memory.data()); }

Memory first_vectors(std::size_t length, std::size_t rank) {
  Memory made(rank * length * sizeof(float));
  begin_basis(length, rank, length, floats(made));
  return made;
}

// Which NaN a sum is, is not specified.
Memory canonical_values(const Memory& values) {
  Memory made = values;
  for (std::size_t i = 0; i < values.size() / sizeof(float); ++i)
    floats(made)[i] = lane::canonical(lane::F::splat(floats(made)[i])).v;
  return made;
}

// How residuals go in and out.
enum class Kept { nothing, in_place, apart };
constexpr Kept kKept[] = {Kept::nothing, Kept::in_place, Kept::apart};

struct Case {
  Shape shape;
  Factor which;
  Kind kind;
  DType dtype, residual_dtype;
  Kept kept;
  std::uint64_t seed;

  std::size_t values() const { return shape.rows * shape.columns; }
  std::size_t length() const { return which == Factor::left ? shape.rows : shape.columns; }
  std::size_t factor_bytes() const { return shape.rank * length() * sizeof(float); }
};

std::string text(const Case& c) {
  return text(c.shape) + (c.which == Factor::left ? " left" : " right") +
         " seed=" + std::to_string(c.seed);
}

// What one side has of a matrix and of its factor.
struct Side {
  explicit Side(const Case& c)
      : x(data::tensor(c.kind, c.dtype, c.values(), c.seed, skew(c.dtype, c.seed))),
        before(data::tensor(Kind::ordinary, c.residual_dtype, c.values(), c.seed + 1)),
        after(before), sent(c.factor_bytes(), float_skew(c.seed)), losses(sent), mean(sent),
        next(sent), left(first_vectors(c.shape.rows, c.shape.rank)),
        right(first_vectors(c.shape.columns, c.shape.rank)),
        matrix{c.shape.rows, c.shape.columns, c.shape.rank, floats(left), floats(right)} {}
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  Memory x, before, after, sent, losses, mean, next, left, right;
  LowRank matrix;
};

// A matrix on both sides.
struct Pair {
  explicit Pair(const Case& of) : c(of), cpu(of), gpu(of) {}

  void* residual_in(Side& s) const { return c.kept == Kept::nothing ? nullptr : s.before.data(); }
  void* residual_out(Side& s) const {
    return c.kept == Kept::apart ? s.after.data() : residual_in(s);
  }
  Contribution y() { return {cpu.x.data(), c.dtype, kScale, residual_in(cpu), c.residual_dtype}; }
  FactoredMatrix on_device() {
    return {gpu.matrix,       gpu.x.data(),       residual_in(gpu), residual_out(gpu),
            floats(gpu.sent), floats(gpu.losses), floats(gpu.mean), floats(gpu.next)};
  }

  void check_taken() {
    if (active_kernels().is_zero(cpu.x.data(), c.values(), c.dtype))
      std::memset(cpu.sent.data(), 0, cpu.sent.size());
    else
      factor_of(cpu.matrix, c.which, y(), floats(cpu.sent));
    CHECK(canonical_values(gpu.sent) == canonical_values(cpu.sent));
    CHECK(gpu.losses == gpu.sent);
    for (std::size_t i = 0; i < gpu.mean.size(); ++i)
      CHECK(gpu.mean.data()[i] == 0);
  }

  // What the engine leaves, the same on both sides: losses, and a mean of some kind.
  void reduce(Kind kind) {
    const std::size_t n = c.shape.rank * c.length();
    for (std::size_t i = 0; i < n; ++i)
      floats(gpu.losses)[i] = floats(gpu.sent)[i] / 64;
    const Memory mean = data::tensor(kind, DType::fp32, n, c.seed + 5);
    std::memcpy(gpu.mean.data(), mean.data(), mean.size());
    std::memcpy(cpu.mean.data(), mean.data(), mean.size());
    for (std::size_t i = 0; i < n; ++i)
      floats(cpu.sent)[i] = floats(gpu.sent)[i] - floats(gpu.losses)[i];
  }

  // Returns whether the CPU found all of it finite.
  bool check_given() {
    const bool finite = deliver(cpu.matrix, c.which, y(), floats(cpu.sent), floats(cpu.mean),
                                residual_out(cpu), cpu.x.data());
    CHECK(gpu.x == cpu.x);
    CHECK(gpu.before == cpu.before);
    CHECK(gpu.after == cpu.after);
    check_renewed(floats(cpu.mean));
    return finite;
  }

  void check_renewed(const float* mean) {
    Memory& now = c.which == Factor::left ? cpu.left : cpu.right;
    const bool found = orthonormal_factor(c.length(), c.shape.rank, mean, floats(cpu.next));
    CHECK(gpu.next == (found ? cpu.next : now));
  }

  static constexpr float kScale = 0.3f;
  Case c;
  Side cpu, gpu;
};

// Matrices of one dtype and side with values between them, through a step.
class Bucket {
public:
  Bucket(Factor which, DType dtype, DType residual_dtype)
      : bucket_{which, dtype, residual_dtype, Pair::kScale} {}

  void add(Shape shape, Kind kind, Kept kept, std::uint64_t seed) {
    pairs_.emplace_back(
        Case{shape, bucket_.which, kind, bucket_.dtype, bucket_.residual_dtype, kept, seed});
    bucket_.matrices.push_back(pairs_.back().on_device());
  }
  void add_values(std::size_t count, std::uint64_t seed) {
    values_.push_back(data::tensor(Kind::ordinary, bucket_.dtype, count, seed));
    stand_in_.emplace_back(count * sizeof(float), float_skew(seed));
    bucket_.copied.push_back({values_.back().data(), count, floats(stand_in_.back())});
  }

  void check(Kind mean, std::uint64_t seed) {
    Memory work(lane::low_rank::work_bytes(bucket_));
    take(work, seed);
    for (Pair& pair : pairs_) {
      check::context = text(pair.c) + " taken";
      pair.check_taken();
      pair.reduce(mean);
    }
    for (std::size_t i = 0; i < values_.size(); ++i)
      check_copied(i, seed);
    std::uint32_t nonfinite = 0;
    give(work, seed, nonfinite);
    bool finite = true;
    for (Pair& pair : pairs_) {
      check::context = text(pair.c) + " given";
      finite &= pair.check_given();
    }
    CHECK((nonfinite == 0) == finite);
    for (std::size_t i = 0; i < values_.size(); ++i)
      check_copied(i, seed);
  }

private:
  void take(Memory& work, std::uint64_t seed) {
    const FloatEnvironment environment;
    emulation::Launcher launcher = launcher_of(seed);
    lane::low_rank::take(launcher, bucket_, bytes(work));
  }
  void give(Memory& work, std::uint64_t seed, std::uint32_t& nonfinite) {
    for (std::size_t i = 0; i < values_.size(); ++i) // other values come back
      for (std::size_t v = 0; v < bucket_.copied[i].count; ++v)
        floats(stand_in_[i])[v] *= 2;
    const FloatEnvironment environment;
    emulation::Launcher launcher = launcher_of(seed + 1);
    lane::low_rank::give(launcher, bucket_, &nonfinite, bytes(work));
  }
  void check_copied(std::size_t i, std::uint64_t seed) {
    check::context = "copied, seed=" + std::to_string(seed);
    for (std::size_t v = 0; v < bucket_.copied[i].count; ++v)
      CHECK(data::get(values_[i], bucket_.dtype, v) == floats(stand_in_[i])[v]);
  }

  FactoredBucket bucket_;
  std::deque<Pair> pairs_;
  std::deque<Memory> values_, stand_in_;
};

template <class Function> void for_each_bucket(Function f) {
  std::uint64_t seed = 0;
  for (Factor which : {Factor::left, Factor::right})
    for (DType dtype : kDTypes)
      for (DType residual_dtype : {DType::fp32, DType::bf16})
        f(which, dtype, residual_dtype, ++seed);
}

TEST(a_step_has_the_bits_of_the_cpu) {
  for_each_bucket([](Factor which, DType dtype, DType residual_dtype, std::uint64_t seed) {
    for (const Shape& shape : kShapes) {
      Bucket bucket(which, dtype, residual_dtype);
      bucket.add(shape, Kind::ordinary, kKept[seed % 3], seed);
      bucket.check(Kind::ordinary, seed++);
    }
  });
}

TEST(large_matrices) {
  for (Factor which : {Factor::left, Factor::right})
    for (const Shape& shape : kLarge) {
      Bucket bucket(which, DType::fp32, DType::bf16);
      bucket.add(shape, Kind::ordinary, Kept::in_place, 2);
      bucket.check(Kind::ordinary, 2);
    }
}

// All kinds of matrices in one bucket, with means of every kind.
TEST(every_kind_of_value) {
  for_each_bucket([](Factor which, DType dtype, DType residual_dtype, std::uint64_t seed) {
    for (std::size_t i = seed % 2; i < std::size(data::kKinds); i += 2) {
      const Kind mean = data::kKinds[i];
      Bucket bucket(which, dtype, residual_dtype);
      for (Kind kind : data::kKinds) {
        bucket.add({67, 20, 9}, kind, kKept[seed % 3], seed + 1);
        bucket.add_values(1 + seed % 300, seed);
        ++seed;
      }
      bucket.check(mean, seed);
    }
  });
}

// More than a lane's quads of them, so that whole quads are looked for on either side.
TEST(other_values_lie_anywhere_in_the_stand_in) {
  for_each_bucket([](Factor which, DType dtype, DType residual_dtype, std::uint64_t seed) {
    Bucket bucket(which, dtype, residual_dtype);
    for (std::size_t count : {512u, 700u, 2100u})
      for (std::size_t i = 0; i < 4; ++i)
        bucket.add_values(count, i);
    bucket.check(Kind::ordinary, seed);
  });
}

TEST(more_matrices_than_a_launch_takes) {
  Bucket bucket(Factor::right, DType::bf16, DType::fp32);
  const std::size_t count = 2 * lane::Batch<lane::low_rank::MatrixArgs>::kFew;
  for (std::size_t i = 0; i < count; ++i) {
    bucket.add(kShapes[i % 4], Kind::ordinary, kKept[i % 3], i);
    bucket.add_values(i, i);
  }
  bucket.check(Kind::ordinary, 1);
}

// A finite mean whose product is beyond fp16, in one value of one matrix.
TEST(what_is_received_may_be_too_large_for_its_dtype) {
  for (Factor which : {Factor::left, Factor::right})
    for (const float largest : {1.0f, 1e6f}) {
      Case c = {{70, 48, 4}, which, Kind::ordinary, DType::fp16, DType::fp32, Kept::in_place, 1};
      Pair pair(c);
      const FactoredBucket bucket = {
          which, c.dtype, c.residual_dtype, Pair::kScale, {pair.on_device()}};
      Memory work(lane::low_rank::work_bytes(bucket));
      emulation::Launcher launcher = launcher_of(1);
      lane::low_rank::take(launcher, bucket, bytes(work));
      pair.check_taken();
      pair.reduce(Kind::ordinary);
      floats(pair.gpu.mean)[c.length() + 3] = floats(pair.cpu.mean)[c.length() + 3] = largest;
      std::uint32_t nonfinite = 0;
      lane::low_rank::give(launcher, bucket, &nonfinite, bytes(work));
      CHECK(pair.check_given() == (largest == 1));
      CHECK((nonfinite == 0) == (largest == 1));
    }
}

// Vectors that vanish beside those before them, and where no direction is left.
TEST(means_whose_vectors_depend_on_each_other) {
  for (const Shape& shape : {Shape{60, 50, 5}, Shape{1, 40, 1}, Shape{2, 2, 2}})
    for (Factor which : {Factor::left, Factor::right}) {
      Pair pair({shape, which, Kind::ordinary, DType::fp32, DType::fp32, Kept::nothing, 3});
      const FactoredBucket bucket = {
          which, DType::fp32, DType::fp32, Pair::kScale, {pair.on_device()}};
      const std::size_t length = pair.c.length();
      Memory work(lane::low_rank::work_bytes(bucket));
      emulation::Launcher launcher = launcher_of(2);
      lane::low_rank::take(launcher, bucket, bytes(work));
      pair.check_taken();
      pair.reduce(Kind::ties);
      for (Side* side : {&pair.cpu, &pair.gpu}) {
        float* mean = floats(side->mean);
        for (std::size_t k = 1; k < shape.rank; ++k)
          for (std::size_t i = 0; i < length; ++i)
            mean[k * length + i] = k == 1 ? 0.0f : mean[i] * static_cast<float>(k);
      }
      std::uint32_t nonfinite = 0;
      lane::low_rank::give(launcher, bucket, &nonfinite, bytes(work));
      pair.check_given();
    }
}

TEST(lessons_have_the_bits_of_the_cpu) {
  for_each_bucket([](Factor which, DType dtype, DType residual_dtype, std::uint64_t seed) {
    if (residual_dtype != DType::fp32)
      return; // a lesson has no residual
    std::deque<Pair> pairs;
    std::vector<FactorLesson> lessons;
    for (const Shape& shape : kShapes)
      for (Kind kind : {Kind::ordinary, Kind::zeros, Kind::special, Kind::sparse}) {
        Pair& pair = pairs.emplace_back(
            Case{shape, which, kind, dtype, residual_dtype, Kept::nothing, ++seed});
        lessons.push_back({pair.gpu.matrix, pair.gpu.x.data(), floats(pair.gpu.next)});
      }
    Memory work(lane::low_rank::work_bytes(lessons, which));
    {
      const FloatEnvironment environment;
      emulation::Launcher launcher = launcher_of(seed);
      lane::low_rank::learn(launcher, std::span<const FactorLesson>(lessons), which, dtype,
                            bytes(work));
    }
    for (Pair& pair : pairs) {
      check::context = text(pair.c);
      const Contribution gradient = {pair.cpu.x.data(), dtype, 1, nullptr, DType::fp32};
      factor_of(pair.cpu.matrix, which, gradient, floats(pair.cpu.sent));
      pair.check_renewed(floats(pair.cpu.sent));
      CHECK(pair.gpu.x == pair.cpu.x);
    }
  });
}

} // namespace
