#include "bind/bind.hpp"

#include "bind/blake3_key.hpp"
#include "dedup/cuda_fingerprint.hpp"
#include "dedup/fingerprint.hpp"

#include <pybind11/numpy.h>

#include <mutex>
#include <tuple>

namespace thinwire::bind {
namespace {

py::array_t<std::int64_t> to_array(const Ends& ends) {
  return py::array_t<std::int64_t>(static_cast<py::ssize_t>(ends.size()), ends.data());
}

py::array_t<std::uint8_t> to_array(const std::vector<Blake3Digest>& digests) {
  return py::array_t<std::uint8_t>({digests.size(), sizeof(Blake3Digest)},
                                   reinterpret_cast<const std::uint8_t*>(digests.data()));
}

// Without the GIL, threads of Python that share a chunker would meet in it.
class SharedChunker {
public:
  SharedChunker(const std::string& name, std::uint64_t min, std::uint64_t average,
                std::uint64_t max, unsigned threads)
      : chunker_(make_chunker(Profile::make(name, min, average, max), threads)) {}

  py::array_t<std::int64_t> update(Address address, std::size_t size) {
    return locked([&](Ends& ends) { chunker_->update(bytes(address, size), ends); });
  }

  py::array_t<std::int64_t> finish() {
    return locked([&](Ends& ends) { chunker_->finish(ends); });
  }

private:
  template <class Act> py::array_t<std::int64_t> locked(Act act) {
    Ends ends;
    {
      const GilRelease release;
      const std::lock_guard lock(mutex_);
      act(ends);
    }
    return to_array(ends);
  }

  std::mutex mutex_;
  std::unique_ptr<Chunker> chunker_;
};

// What `make` finds with a key, without the GIL.
template <class Make> py::tuple fingerprint_of(const std::optional<py::buffer>& key, Make make) {
  const auto fixed = blake3_key(key);
  Fingerprint found;
  {
    const GilRelease release;
    found = make(fixed ? &*fixed : nullptr);
  }
  return py::make_tuple(to_array(found.ends), to_array(found.digests));
}

py::tuple fingerprint_py(Address address, std::size_t size, const std::string& name,
                         std::uint64_t min, std::uint64_t average, std::uint64_t max,
                         const std::optional<py::buffer>& key, unsigned threads) {
  return fingerprint_of(key, [&](const Blake3Key* fixed) {
    return fingerprint(bytes(address, size), Profile::make(name, min, average, max), fixed,
                       threads);
  });
}

py::tuple cuda_fingerprint_py(Address address, std::size_t size, const std::string& name,
                              std::uint64_t min, std::uint64_t average, std::uint64_t max,
                              const std::optional<py::buffer>& key, Address stream) {
  return fingerprint_of(key, [&](const Blake3Key* fixed) {
    return cuda::fingerprint(bytes(address, size), Profile::make(name, min, average, max), fixed,
                             pointer(stream));
  });
}

py::array_t<std::uint8_t> cuda_block_digests_py(const std::vector<Address>& addresses,
                                                const std::vector<std::size_t>& sizes,
                                                std::uint64_t block_bytes,
                                                const std::optional<py::buffer>& key,
                                                Address stream) {
  if (addresses.size() != sizes.size())
    throw InvalidArgument("block_digests takes as many sizes as addresses");
  std::vector<std::span<const std::byte>> pieces;
  for (std::size_t i = 0; i < sizes.size(); ++i)
    pieces.push_back(bytes(addresses[i], sizes[i]));
  const auto fixed = blake3_key(key);
  std::vector<Blake3Digest> digests;
  {
    const GilRelease release;
    digests = cuda::block_digests(pieces, block_bytes, fixed ? &*fixed : nullptr, pointer(stream));
  }
  return to_array(digests);
}

std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>
chunk_sizes(const std::string& name, std::uint64_t min, std::uint64_t average, std::uint64_t max) {
  const Profile profile = Profile::make(name, min, average, max);
  return {profile.min, profile.average, profile.max};
}

} // namespace

void register_dedup(py::module_& m) {
  m.def("chunk_sizes", &chunk_sizes, py::arg("name"), py::arg("min") = 0, py::arg("average") = 0,
        py::arg("max") = 0,
        "Least, average and greatest bytes of a chunk in a profile; 0 stands for the default.");
  m.def("fingerprint", &fingerprint_py, py::arg("address"), py::arg("size"), py::arg("name"),
        py::arg("min"), py::arg("average"), py::arg("max"), py::arg("key") = py::none(),
        py::arg("threads") = 0, "The ends of the chunks of data, and their BLAKE3 digests.");
  m.def("cuda_fingerprint", &cuda_fingerprint_py, py::arg("address"), py::arg("size"),
        py::arg("name"), py::arg("min"), py::arg("average"), py::arg("max"), py::arg("key"),
        py::arg("stream"), "fingerprint for data on a CUDA device; waits for the stream.");
  m.def("cuda_block_digests", &cuda_block_digests_py, py::arg("addresses"), py::arg("sizes"),
        py::arg("block_bytes"), py::arg("key"), py::arg("stream"),
        "BLAKE3 digests of the blocks of data on a CUDA device; waits for the stream.");
  py::class_<SharedChunker>(m, "Chunker", "Cuts a stream into chunks, piece by piece.")
      .def(py::init<const std::string&, std::uint64_t, std::uint64_t, std::uint64_t, unsigned>(),
           py::arg("name"), py::arg("min"), py::arg("average"), py::arg("max"), py::arg("threads"))
      .def("update", &SharedChunker::update, py::arg("address"), py::arg("size"),
           "Takes a piece of the stream and returns the ends that are certain now.")
      .def("finish", &SharedChunker::finish,
           "Returns the end of the stream, unless the last chunk has ended there.");
}

} // namespace thinwire::bind
