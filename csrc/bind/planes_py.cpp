#include "bind/held_bytes.hpp"

#include "dedup/planes.hpp"

#include <pybind11/numpy.h>

#include <algorithm>

namespace thinwire::bind {
namespace {

py::array_t<std::uint8_t> split_buffer(const py::buffer& data, std::size_t width) {
  const HeldBytes held(data);
  const auto bytes = held.bytes();
  py::array_t<std::uint8_t> planes(static_cast<py::ssize_t>(bytes.size()));
  const std::span out(reinterpret_cast<std::byte*>(planes.mutable_data()), bytes.size());
  const GilRelease release;
  split_planes(bytes, width, out);
  return planes;
}

void merge_buffer(const py::buffer& planes, std::size_t width, const py::buffer& out) {
  const HeldBytes held(planes), held_out(out, HeldBytes::Access::write);
  const GilRelease release;
  merge_planes(held.bytes(), width, held_out.bytes());
}

py::array_t<double> entropies_of_buffer(const py::buffer& data, std::size_t width) {
  const HeldBytes held(data);
  const auto bytes = held.bytes();
  std::array<double, kWidestElement> entropies;
  {
    const GilRelease release;
    entropies = plane_entropies(bytes, width);
  }
  return py::array_t<double>(static_cast<py::ssize_t>(width), entropies.data());
}

} // namespace

void register_planes(py::module_& m) {
  m.def("split_planes", &split_buffer, py::arg("data"), py::arg("width"),
        "The bytes of all elements, plane by plane.");
  m.def("merge_planes", &merge_buffer, py::arg("planes"), py::arg("width"), py::arg("out"),
        "Puts together again what split_planes took apart.");
  m.def("plane_entropies", &entropies_of_buffer, py::arg("data"), py::arg("width"),
        "Bits a byte of each plane, from a sample.");
}

} // namespace thinwire::bind
