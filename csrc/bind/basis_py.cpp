#include "bind/bind.hpp"

#include "dispatch/basis_codec.hpp"
#include "dispatch/cuda_basis.hpp"

#include <tuple>
#include <vector>

namespace thinwire::bind {
namespace {

Basis make_basis(std::size_t columns, std::size_t rank, Address vectors) {
  if (rank < 1 || rank > kGreatestRank || rank > columns)
    throw InvalidArgument("a basis has from 1 to " + std::to_string(kGreatestRank) +
                          " vectors, no more than columns; not " + std::to_string(rank) + " of " +
                          std::to_string(columns));
  if (columns > kGreatestColumns)
    throw InvalidArgument("a vector of a basis has at most " + std::to_string(kGreatestColumns) +
                          " values, not " + std::to_string(columns));
  return {columns, rank, floats(vectors)};
}

// Basis, matrix, rows, next, share, before, after.
using LessonTuple = std::tuple<Basis, Address, std::size_t, Address, float, Address, Address>;

Lesson make_lesson(const LessonTuple& lesson, DType dtype) {
  const auto& [basis, matrix, rows, next, share, before, after] = lesson;
  return {basis,
          pointer(matrix),
          dtype,
          rows,
          writable_floats(next),
          share,
          static_cast<const std::uint16_t*>(pointer(before)),
          static_cast<std::uint16_t*>(pointer(after))};
}

void cuda_learn(const std::vector<LessonTuple>& lessons, int dtype, Address stream) {
  std::vector<Lesson> made;
  for (const LessonTuple& lesson : lessons)
    made.push_back(make_lesson(lesson, dtype_of(dtype)));
  cuda::learn(made, pointer(stream));
}

} // namespace

void register_bases(py::module_& m) {
  m.attr("GREATEST_BASIS_RANK") = kGreatestRank;
  py::class_<Basis>(m, "Basis", "Where the vectors of a shared basis lie: rank x columns, fp32.")
      .def(py::init(&make_basis), py::arg("columns"), py::arg("rank"), py::arg("vectors"))
      .def_readonly("columns", &Basis::columns)
      .def_readonly("rank", &Basis::rank)
      .def(
          "begin",
          [](const Basis& basis, std::uint64_t key, Address vectors) {
            begin_basis(basis.columns, basis.rank, key, writable_floats(vectors));
          },
          py::arg("key"), py::arg("vectors"), ReleaseGil(),
          "Writes the random orthonormal vectors that belong to a key.")
      .def(
          "learn",
          [](const Basis& basis, Address matrix, int dtype, std::size_t rows, Address moments) {
            learn_basis(basis, pointer(matrix), dtype_of(dtype), rows, writable_floats(moments));
          },
          py::arg("matrix"), py::arg("dtype"), py::arg("rows"), py::arg("moments"), ReleaseGil(),
          "Adds vectors @ transposed(matrix) @ matrix to the moments, rank x columns.")
      .def(
          "spread",
          [](const Basis& basis, Address matrix, int dtype, std::size_t rows, float share,
             Address before, Address after) {
            spread_rest(basis, pointer(matrix), dtype_of(dtype), rows, share,
                        static_cast<const std::uint16_t*>(pointer(before)),
                        static_cast<std::uint16_t*>(pointer(after)));
          },
          py::arg("matrix"), py::arg("dtype"), py::arg("rows"), py::arg("share"), py::arg("before"),
          py::arg("after"), ReleaseGil(),
          "Leaves in the matrix a share of what it and before, bf16, have beside the basis; the "
          "rest becomes after. A matrix of zeros stays, and so does before.")
      .def(
          "turn",
          [](const Basis& basis, Address moments, Address next) {
            turn_basis(basis, floats(moments), writable_floats(next));
          },
          py::arg("moments"), py::arg("next"), ReleaseGil(),
          "Writes the vectors, turned towards the moments, to next.");
  m.def(
      "cuda_learn", &cuda_learn, py::arg("lessons"), py::arg("dtype"), py::arg("stream"),
      ReleaseGil(),
      "Learns, turns and, where there is an after, spreads, as Basis does, on a CUDA device; only "
      "launches.");
}

} // namespace thinwire::bind
