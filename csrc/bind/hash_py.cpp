#include "bind/blake3_key.hpp"

#include "hash/blake3_blocks.hpp"
#include "hash/xxh3.hpp"

#include <pybind11/numpy.h>

#include <optional>
#include <span>
#include <vector>

namespace thinwire::bind {
namespace {

using Ends = py::array_t<std::int64_t, py::array::c_style>;

// A secret, where there is one.
struct HeldSecret {
  explicit HeldSecret(const std::optional<py::buffer>& secret) {
    if (secret)
      bytes = held_.emplace(*secret).bytes();
  }
  std::optional<std::span<const std::byte>> bytes;

private:
  std::optional<HeldBytes> held_;
};

py::bytes bytes_of(std::span<const std::byte> digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

std::uint64_t xxh3_64_of_buffer(const py::buffer& data, std::uint64_t seed) {
  const HeldBytes held(data);
  const std::span<const std::byte> bytes = held.bytes();
  const GilRelease release;
  return xxh3_64(bytes.data(), bytes.size(), seed);
}

py::bytes xxh3_128_of_buffer(const py::buffer& data, std::uint64_t seed,
                             const std::optional<py::buffer>& secret) {
  if (secret && seed != 0)
    throw InvalidArgument("XXH3-128 takes a seed or a secret, not both");
  const HeldBytes held(data);
  const std::span<const std::byte> bytes = held.bytes();
  const HeldSecret held_secret(secret);
  Xxh3Digest digest;
  {
    const GilRelease release;
    digest = held_secret.bytes ? xxh3_128_secret(bytes, *held_secret.bytes) : xxh3_128(bytes, seed);
  }
  return bytes_of(digest);
}

py::bytes blake3_of_buffer(const py::buffer& data, const std::optional<py::buffer>& key) {
  const HeldBytes held(data);
  const std::span<const std::byte> bytes = held.bytes();
  const auto fixed = blake3_key(key);
  Blake3Digest digest;
  {
    const GilRelease release;
    digest = fixed ? blake3_keyed(*fixed, bytes) : blake3(bytes);
  }
  return bytes_of(digest);
}

// An array with a digest a block, which `hash` fills without the GIL.
template <class Digest, class Hash>
py::array_t<std::uint8_t> digests_of_blocks(const py::buffer& data, const Ends& ends, Hash hash) {
  if (ends.ndim() != 1)
    throw InvalidArgument("ends has one dimension, not " + std::to_string(ends.ndim()));
  const HeldBytes held(data);
  const std::span<const std::byte> bytes = held.bytes();
  const std::span<const std::int64_t> offsets(ends.data(), static_cast<std::size_t>(ends.size()));
  py::array_t<std::uint8_t> digests({ends.size(), static_cast<py::ssize_t>(sizeof(Digest))});
  auto* out = reinterpret_cast<Digest*>(digests.mutable_data());
  const GilRelease release;
  hash(Blocks(bytes, offsets), out);
  return digests;
}

py::array_t<std::uint8_t> blake3_of_blocks(const py::buffer& data, const Ends& ends,
                                           const std::optional<py::buffer>& key, unsigned threads) {
  const auto fixed = blake3_key(key);
  return digests_of_blocks<Blake3Digest>(
      data, ends, [&](const Blocks& blocks, Blake3Digest* digests) {
        blake3_blocks(blocks, fixed ? &*fixed : nullptr, threads, digests);
      });
}

py::array_t<std::uint8_t> xxh3_128_of_blocks(const py::buffer& data, const Ends& ends,
                                             const std::optional<py::buffer>& secret,
                                             unsigned threads) {
  const HeldSecret held(secret);
  return digests_of_blocks<Xxh3Digest>(data, ends, [&](const Blocks& blocks, Xxh3Digest* digests) {
    xxh3_128_blocks(blocks, held.bytes, threads, digests);
  });
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
  m.def("xxh3_64", &xxh3_64_of_buffer, py::arg("data"), py::arg("seed") = 0,
        "XXH3-64 of a contiguous buffer.");
  m.def("xxh3_128", &xxh3_128_of_buffer, py::arg("data"), py::arg("seed") = 0,
        py::arg("secret") = py::none(), "XXH3-128 of a contiguous buffer, 16 bytes.");
  m.def("xxh3_128_blocks", &xxh3_128_of_blocks, py::arg("data"), py::arg("ends"),
        py::arg("secret") = py::none(), py::arg("threads") = 0,
        "XXH3-128 of consecutive blocks of one buffer.");
  m.def("blake3", &blake3_of_buffer, py::arg("data"), py::arg("key") = py::none(),
        "BLAKE3 of a contiguous buffer, 32 bytes; keyed where there is a key of 32 bytes.");
  m.def("blake3_blocks", &blake3_of_blocks, py::arg("data"), py::arg("ends"),
        py::arg("key") = py::none(), py::arg("threads") = 0,
        "BLAKE3 of consecutive blocks of one buffer.");
  m.def("hash_many", &hash_many, py::arg("addresses"), py::arg("sizes"), ReleaseGil(),
        "XXH3-64 over several buffers, each seeded with the hash of those before it.");
}

} // namespace thinwire::bind
