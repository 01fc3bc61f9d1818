#include "bind/bind.hpp"

#include "hash/blake3.hpp"
#include "hash/xxh3.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

namespace thinwire::bind {
namespace {

std::span<const std::byte> contiguous_bytes(const py::buffer_info& info) {
  if (PyBuffer_IsContiguous(info.view(), 'C') == 0)
    throw InvalidArgument("the data to hash must be contiguous");
  return {static_cast<const std::byte*>(info.ptr),
          static_cast<std::size_t>(info.size * info.itemsize)};
}

std::uint64_t hash_buffer(const py::buffer& data, std::uint64_t seed) {
  const py::buffer_info info = data.request();
  const auto bytes = contiguous_bytes(info);
  const py::gil_scoped_release release;
  return xxh3_64(bytes.data(), bytes.size(), seed);
}

Blake3 hasher_for(const std::optional<py::buffer>& key) {
  if (!key)
    return Blake3();
  const py::buffer_info info = key->request();
  const auto bytes = contiguous_bytes(info);
  Blake3Key fixed;
  if (bytes.size() != fixed.size())
    throw InvalidArgument("a BLAKE3 key has " + std::to_string(fixed.size()) +
                          " bytes, this one has " + std::to_string(bytes.size()));
  std::ranges::copy(bytes, fixed.begin());
  return Blake3(fixed);
}

py::bytes blake3_of_buffer(const py::buffer& data, const std::optional<py::buffer>& key) {
  const py::buffer_info info = data.request();
  const auto bytes = contiguous_bytes(info);
  Blake3 hasher = hasher_for(key);
  Blake3Digest digest;
  {
    const py::gil_scoped_release release;
    hasher.update(bytes).finish(digest);
  }
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
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
  m.def("blake3", &blake3_of_buffer, py::arg("data"), py::arg("key") = py::none(),
        "BLAKE3 of a contiguous buffer, 32 bytes; keyed where there is a key of 32 bytes.");
  m.def("hash_many", &hash_many, py::arg("addresses"), py::arg("sizes"), ReleaseGil(),
        "XXH3-64 over several buffers, each seeded with the hash of those before it.");
}

} // namespace thinwire::bind
