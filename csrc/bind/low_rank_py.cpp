#include "bind/bind.hpp"

#include "dispatch/low_rank.hpp"

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
            deliver(matrix, factor_named(is_left),
                    contribution(x, dtype, scale, residual, residual_dtype), floats(sent),
                    floats(mean), pointer(residual_out), pointer(x));
          },
          py::arg("is_left"), py::arg("x"), py::arg("dtype"), py::arg("scale"), py::arg("residual"),
          py::arg("residual_out"), py::arg("residual_dtype"), py::arg("sent"), py::arg("mean"),
          ReleaseGil(),
          "Replaces x by what the mean factor stands for; residual_out becomes what was not sent.");
  m.def(
      "orthonormal_factor",
      [](std::size_t length, std::size_t rank, Address factor, Address next) {
        return orthonormal_factor(length, rank, floats(factor), writable_floats(next));
      },
      py::arg("length"), py::arg("rank"), py::arg("factor"), py::arg("next"), ReleaseGil(),
      "Writes a factor, made orthonormal, to next. False where it is zero or not finite.");
}

} // namespace thinwire::bind
