#include "bind/bind.hpp"

#include "io/permutation.hpp"

namespace thinwire::bind {
namespace {

void take(const Permutation& permutation, std::uint64_t start, std::size_t count, Address out) {
  permutation.take(start, {static_cast<std::int64_t*>(pointer(out)), count});
}

} // namespace

void register_permutation(py::module_& m) {
  py::class_<Permutation>(m, "Permutation", "A keyed permutation of 0 .. size - 1.")
      .def(py::init<std::uint64_t, std::uint64_t>(), py::arg("size"), py::arg("key"))
      .def("take", &take, py::arg("start"), py::arg("count"), py::arg("out"), ReleaseGil(),
           "Writes where the indices from `start` on go.");
}

} // namespace thinwire::bind
