#include "bind/bind.hpp"

#include "dispatch/cuda_low_rank.hpp"

#include <tuple>
#include <vector>

namespace thinwire::bind {
namespace {

LowRank make_low_rank(std::size_t rows, std::size_t columns, std::size_t rank, Address left,
                      Address right) {
  if (rank < 1 || rank > kGreatestRank || rank > rows || rank > columns)
    throw InvalidArgument("factors have from 1 to " + std::to_string(kGreatestRank) +
                          " vectors, no more than rows and columns; not " + std::to_string(rank) +
                          " of " + std::to_string(rows) + " x " + std::to_string(columns));
  return {rows, columns, rank, floats(left), floats(right)};
}

Factor factor_named(bool is_left) { return is_left ? Factor::left : Factor::right; }

Contribution contribution(Address x, int dtype, float scale, Address residual, int residual_dtype) {
  return {pointer(x), dtype_of(dtype), scale, pointer(residual), dtype_of(residual_dtype)};
}

FactoredBucket make_bucket(bool is_left, int dtype, int residual_dtype, float scale) {
  return {factor_named(is_left), dtype_of(dtype), dtype_of(residual_dtype), scale};
}

void add_matrix(FactoredBucket& bucket, const LowRank& matrix, Address values, Address residual,
                Address residual_out, Address sent, Address losses, Address mean, Address next) {
  bucket.matrices.push_back({matrix, pointer(values), pointer(residual), pointer(residual_out),
                             writable_floats(sent), writable_floats(losses), writable_floats(mean),
                             writable_floats(next)});
}

// Matrix, values, next.
using FactorLessonTuple = std::tuple<LowRank, Address, Address>;

void cuda_learn_factors(const std::vector<FactorLessonTuple>& lessons, bool is_left, int dtype,
                        Address stream) {
  std::vector<FactorLesson> made;
  for (const auto& [matrix, values, next] : lessons)
    made.push_back({matrix, pointer(values), writable_floats(next)});
  cuda::learn_factors(made, factor_named(is_left), dtype_of(dtype), pointer(stream));
}

void register_factored_bucket(py::module_& m) {
  py::class_<FactoredBucket>(m, "FactoredBucket",
                             "Where a bucket on a device lies, and what stands in for it.")
      .def(py::init(&make_bucket), py::arg("is_left"), py::arg("dtype"), py::arg("residual_dtype"),
           py::arg("scale"))
      .def("add_matrix", &add_matrix, py::arg("matrix"), py::arg("values"), py::arg("residual"),
           py::arg("residual_out"), py::arg("sent"), py::arg("losses"), py::arg("mean"),
           py::arg("next"), "Adds a matrix that travels as a factor.")
      .def(
          "add_values",
          [](FactoredBucket& bucket, Address values, std::size_t count, Address stand_in) {
            bucket.copied.push_back({pointer(values), count, writable_floats(stand_in)});
          },
          py::arg("values"), py::arg("count"), py::arg("stand_in"),
          "Adds values that the stand-in has as the bucket has them.");
  m.def(
      "cuda_take_factors",
      [](const FactoredBucket& bucket, Address stream) {
        cuda::take_factors(bucket, pointer(stream));
      },
      py::arg("bucket"), py::arg("stream"), ReleaseGil(),
      "Fills the stand-in of a bucket on a CUDA device; only launches.");
  m.def(
      "cuda_give_factors",
      [](const FactoredBucket& bucket, Address nonfinite, Address stream) {
        cuda::give_factors(bucket, static_cast<std::uint32_t*>(pointer(nonfinite)),
                           pointer(stream));
      },
      py::arg("bucket"), py::arg("nonfinite"), py::arg("stream"), ReleaseGil(),
      "Delivers the means, keeps what was not sent, learns; only launches. The integer nonfinite, "
      "0 before, is not where a matrix is not finite now.");
  m.def(
      "cuda_learn_factors", &cuda_learn_factors, py::arg("lessons"), py::arg("is_left"),
      py::arg("dtype"), py::arg("stream"), ReleaseGil(),
      "Works out the next steps' factors from decoded gradients on a CUDA device; only launches.");
}

} // namespace

void register_low_rank(py::module_& m) {
  py::class_<LowRank>(m, "LowRank",
                      "Where the factors of a matrix lie: rank x rows and rank x columns, fp32.")
      .def(py::init(&make_low_rank), py::arg("rows"), py::arg("columns"), py::arg("rank"),
           py::arg("left"), py::arg("right"))
      .def(
          "factor",
          [](const LowRank& matrix, bool is_left, Address x, int dtype, float scale,
             Address residual, int residual_dtype, Address out) {
            factor_of(matrix, factor_named(is_left),
                      contribution(x, dtype, scale, residual, residual_dtype),
                      writable_floats(out));
          },
          py::arg("is_left"), py::arg("x"), py::arg("dtype"), py::arg("scale"), py::arg("residual"),
          py::arg("residual_dtype"), py::arg("out"), ReleaseGil(),
          "Writes one factor of x * scale + residual, worked out with the other one.")
      .def(
          "deliver",
          [](const LowRank& matrix, bool is_left, Address x, int dtype, float scale,
             Address residual, Address residual_out, int residual_dtype, Address sent,
             Address mean) {
            return deliver(matrix, factor_named(is_left),
                           contribution(x, dtype, scale, residual, residual_dtype), floats(sent),
                           floats(mean), pointer(residual_out), pointer(x));
          },
          py::arg("is_left"), py::arg("x"), py::arg("dtype"), py::arg("scale"), py::arg("residual"),
          py::arg("residual_out"), py::arg("residual_dtype"), py::arg("sent"), py::arg("mean"),
          ReleaseGil(),
          "Replaces x by what the mean factor stands for; residual_out becomes what was not sent. "
          "False where x is not finite now.");
  m.def(
      "orthonormal_factor",
      [](std::size_t length, std::size_t rank, Address factor, Address next) {
        return orthonormal_factor(length, rank, floats(factor), writable_floats(next));
      },
      py::arg("length"), py::arg("rank"), py::arg("factor"), py::arg("next"), ReleaseGil(),
      "Writes a factor, made orthonormal, to next. False where it is zero or not finite.");
  register_factored_bucket(m);
}

} // namespace thinwire::bind
