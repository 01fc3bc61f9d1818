// The factors of a matrix on every CPU target: the scalar target's bits, nothing lost, and no
// access outside the arrays.
#include "check.hpp"
#include "core/cpu.hpp"
#include "data.hpp"
#include "dispatch/low_rank.hpp"

#include <algorithm>
#include <cmath>
#include <span>

namespace {

using namespace thinwire;
using data::Kind;
using data::Memory;

struct Case {
  std::size_t rows, columns, rank;
  Factor which;
  Kind kind;
  DType dtype, residual_dtype;

  std::size_t values() const { return rows * columns; }
  std::size_t length() const { return which == Factor::left ? rows : columns; }
};

std::string text(const Case& c) {
  return std::to_string(c.rows) + "x" + std::to_string(c.columns) +
         " rank=" + std::to_string(c.rank) + (c.which == Factor::left ? " left" : " right") +
         " kind=" + std::to_string(static_cast<int>(c.kind)) +
         " dtype=" + std::to_string(static_cast<int>(c.dtype)) +
         " residual=" + std::to_string(static_cast<int>(c.residual_dtype));
}

float* floats(Memory& memory) { return reinterpret_cast<float*>(memory.data()); }

Memory first_vectors(std::size_t length, std::size_t rank) {
  Memory made(rank * length * sizeof(float));
  const Memory random = data::tensor(Kind::ties, DType::fp32, rank * length, length + rank);
  const bool found =
      orthonormal_factor(length, rank, reinterpret_cast<const float*>(random.data()), floats(made));
  CHECK(found);
  return made;
}

struct Step {
  Memory factor, received, residual, next;
  bool renewed;
  bool operator==(const Step&) const = default;
};

// A rank alone: the mean is what it sent.
Step run(const Case& c) {
  Memory left = first_vectors(c.rows, c.rank), right = first_vectors(c.columns, c.rank);
  const LowRank matrix{c.rows, c.columns, c.rank, floats(left), floats(right)};
  Memory x = data::tensor(c.kind, c.dtype, c.values(), 1);
  Memory residual = data::tensor(Kind::ordinary, c.residual_dtype, c.values(), 2);
  const Contribution y{x.data(), c.dtype, 0.5f, residual.data(), c.residual_dtype};
  Memory factor(c.rank * c.length() * sizeof(float)), next(factor.size());
  factor_of(matrix, c.which, y, floats(factor));
  deliver(matrix, c.which, y, floats(factor), floats(factor), residual.data(), x.data());
  const bool renewed = orthonormal_factor(c.length(), c.rank, floats(factor), floats(next));
  return {factor, x, residual, renewed ? next : Memory(0), renewed};
}

void check_sum(const Case& c, const Step& step) {
  const Memory x = data::tensor(c.kind, c.dtype, c.values(), 1);
  const Memory before = data::tensor(Kind::ordinary, c.residual_dtype, c.values(), 2);
  double off = 0;
  for (std::size_t i = 0; i < c.values(); ++i) {
    const double y = 0.5 * data::get(x, c.dtype, i) + data::get(before, c.residual_dtype, i);
    const double sum = double{data::get(step.received, c.dtype, i)} +
                       data::get(step.residual, c.residual_dtype, i);
    off = std::max(off, std::abs(sum - y));
  }
  const bool is_fp32 = c.dtype == DType::fp32 && c.residual_dtype == DType::fp32;
  CHECK(off < (is_fp32 ? 1e-8 : 1e-4));
}

template <class Function> void for_each_case(Kind kind, Function f) {
  constexpr std::size_t kShapes[][3] = {{64, 16, 8}, {1, 1, 1},    {65, 33, 5},
                                        {130, 7, 3}, {63, 50, 13}, {200, 96, 32}};
  constexpr DType kDTypes[][2] = {{DType::fp32, DType::fp32},
                                  {DType::fp16, DType::bf16},
                                  {DType::bf16, DType::fp32},
                                  {DType::fp32, DType::bf16}};
  for (const auto& [rows, columns, rank] : kShapes)
    for (Factor which : {Factor::left, Factor::right})
      for (const auto& [dtype, residual_dtype] : kDTypes) {
        const Case c{rows, columns, rank, which, kind, dtype, residual_dtype};
        check::context = text(c);
        f(c);
      }
}

} // namespace

TEST(what_is_received_and_what_is_kept_add_up) {
  for_each_case(Kind::ordinary, [](const Case& c) { check_sum(c, run(c)); });
}

TEST(every_target_gives_the_scalar_bits) {
  for (Kind kind : {Kind::ordinary, Kind::tiny, Kind::zeros, Kind::sparse})
    for_each_case(kind, [](const Case& c) {
      force_target("scalar");
      const Step wanted = run(c);
      for (Target target : std::span(available_targets()).subspan(1)) { // the first is scalar
        force_target(name(target));
        CHECK(run(c) == wanted);
      }
      force_target("");
    });
}

TEST(what_is_not_finite_stays_in_no_residual) {
  for (Kind kind : {Kind::special, Kind::huge, Kind::any_bits})
    for_each_case(kind, [](const Case& c) {
      const Step step = run(c);
      for (std::size_t i = 0; i < c.values(); ++i)
        if (!std::isfinite(data::get(step.residual, c.residual_dtype, i)))
          return CHECK(false);
    });
}
