#include "bind/bind.hpp"

#include "hash/xxh3.hpp"

#include <vector>

namespace thinwire::bind {
namespace {

std::uint64_t hash_buffer(const py::buffer& data, std::uint64_t seed) {
  const py::buffer_info info = data.request();
  if (PyBuffer_IsContiguous(info.view(), 'C') == 0)
    throw InvalidArgument("the data to hash must be contiguous");
  const py::gil_scoped_release release;
  return xxh3_64(info.ptr, static_cast<std::size_t>(info.size * info.itemsize), seed);
}

std::uint64_t hash_many(const std::vector<Address>& addresses,
                        const std::vector<std::size_t>& sizes) {
  if (addresses.size() != sizes.size())
    throw InvalidArgument("hash_many takes as many sizes as addresses");
  std::uint64_t hash = 0;
  for (std::size_t i = 0; i < addresses.size(); ++i)
    hash = xxh3_64(pointer(addresses[i]), sizes[i], hash);
  return hash;
}

} // namespace

void register_hash(py::module_& m) {
  m.def("xxh3_64", &hash_buffer, py::arg("data"), py::arg("seed") = 0,
        "XXH3-64 of a contiguous buffer.");
  m.def("hash_many", &hash_many, py::arg("addresses"), py::arg("sizes"), ReleaseGil(),
        "XXH3-64 over several buffers, each seeded with the hash of those before it.");
}

} // namespace thinwire::bind
