#include "bind/frame_values.hpp"

#include "dispatch/cuda_codec.hpp"
#include "dispatch/cuda_sums.hpp"
#include "dispatch/frame_steps.hpp"

namespace thinwire::bind {
namespace {

std::byte* block(Address address) { return static_cast<std::byte*>(pointer(address)); }

// FrameValues::used, from addresses of which 0 is none.
std::vector<const std::uint32_t*> words(const Addresses& addresses) {
  std::vector<const std::uint32_t*> found;
  if (addresses)
    for (Address address : *addresses)
      found.push_back(static_cast<const std::uint32_t*>(pointer(address)));
  return found;
}

std::size_t encode_py(const Layout& layout, const FrameHeader& header, Address x, int dtype,
                      float scale, const Addresses& residual_in, const Addresses& residual_out,
                      int residual_dtype, const Flags& held, std::uint64_t key, Address out,
                      std::size_t out_bytes, Address stream) {
  const Values values(x, dtype, scale, residual_in, residual_out, residual_dtype, held);
  return cuda::encode_frame(layout, header, values.view, key, bytes(out, out_bytes),
                            pointer(stream));
}

FrameHeader decode_py(const Layout& layout, Address frame, std::size_t frame_bytes, Address out,
                      int dtype, bool accumulate, Address stream) {
  return cuda::decode_frame(layout, bytes(frame, frame_bytes), pointer(out), dtype_of(dtype),
                            accumulate, pointer(stream));
}

void launch_encode_py(const Layout& layout, Address x, int dtype, float scale,
                      const Addresses& residual_in, const Addresses& residual_out,
                      int residual_dtype, const Flags& held, std::uint64_t key, std::uint64_t step,
                      Address frame, Address work, Address stream, const Addresses& used,
                      bool residual_in_x) {
  Values values(x, dtype, scale, residual_in, residual_out, residual_dtype, held);
  const auto flags = words(used);
  values.view.used = flags;
  values.view.residual_in_x = residual_in_x;
  check_values(layout, values.view);
  const Encoding encoding{&layout, values.view, key, step, block(frame), count_in(block(frame))};
  cuda::encode_payloads({&encoding, 1}, block(work), pointer(stream));
}

void launch_fold_py(const Layout& layout, Address x, int dtype, float scale,
                    const Addresses& residual_in, int residual_dtype, const Addresses& used,
                    Address out, Address work, Address stream) {
  Values values(x, dtype, scale, residual_in, std::nullopt, residual_dtype, std::nullopt);
  const auto flags = words(used);
  values.view.used = flags;
  check_values(layout, values.view);
  const Folding folding{&layout, values.view, static_cast<float*>(pointer(out))};
  cuda::fold({&folding, 1}, block(work), pointer(stream));
}

void launch_find_nonzero_py(const std::vector<std::pair<Address, std::size_t>>& stretches,
                            int dtype, Address found, Address work, Address stream) {
  std::vector<Stretch> some;
  for (const auto& [values, count] : stretches)
    some.push_back({pointer(values), count});
  cuda::find_nonzero(some, dtype_of(dtype), static_cast<std::uint32_t*>(pointer(found)),
                     block(work), pointer(stream));
}

void launch_decode_py(const Layout& layout, const std::vector<Address>& frames, Address out,
                      int dtype, bool accumulate, Address work, Address stream) {
  std::vector<const std::byte*> blocks;
  for (const Address frame : frames)
    blocks.push_back(block(frame));
  cuda::decode_payloads(layout, blocks, pointer(out), dtype_of(dtype), accumulate, block(work),
                        pointer(stream));
}

} // namespace

void register_cuda(py::module_& m) {
  m.def("cuda_encode_frame", &encode_py, py::arg("layout"), py::arg("header"), py::arg("x"),
        py::arg("dtype"), py::arg("scale"), py::arg("residual_in"), py::arg("residual_out"),
        py::arg("residual_dtype"), py::arg("held"), py::arg("key"), py::arg("out"),
        py::arg("out_bytes"), py::arg("stream"), ReleaseGil(),
        "encode_frame for x and residuals on a CUDA device, out in host memory; waits for the "
        "stream.");
  m.def("cuda_decode_frame", &decode_py, py::arg("layout"), py::arg("frame"),
        py::arg("frame_bytes"), py::arg("out"), py::arg("dtype"), py::arg("accumulate"),
        py::arg("stream"), ReleaseGil(),
        "decode_frame for a frame in host memory and out on a CUDA device; waits for the stream.");
  m.def("cuda_launch_encode", &launch_encode_py, py::arg("layout"), py::arg("x"), py::arg("dtype"),
        py::arg("scale"), py::arg("residual_in"), py::arg("residual_out"),
        py::arg("residual_dtype"), py::arg("held"), py::arg("key"), py::arg("step"),
        py::arg("frame"), py::arg("work"), py::arg("stream"), py::arg("used") = py::none(),
        py::arg("residual_in_x") = false, ReleaseGil(),
        "Encodes a payload on the current CUDA device into a frame there; waits for nothing. A "
        "segment is held where there is a 0 at its address in `used`; the residual of one that is "
        "not is in x already with `residual_in_x`.");
  m.def("cuda_launch_fold", &launch_fold_py, py::arg("layout"), py::arg("x"), py::arg("dtype"),
        py::arg("scale"), py::arg("residual_in"), py::arg("residual_dtype"), py::arg("used"),
        py::arg("out"), py::arg("work"), py::arg("stream"), ReleaseGil(),
        "fold on the current CUDA device, segments held as `used` says; waits for nothing.");
  m.def("cuda_launch_find_nonzero", &launch_find_nonzero_py, py::arg("stretches"), py::arg("dtype"),
        py::arg("found"), py::arg("work"), py::arg("stream"), ReleaseGil(),
        "Sets to 1 those of the zeroed `found` (uint32) whose stretch (address, count) has a value "
        "that is not zero; waits for nothing.");
  m.def("cuda_launch_decode", &launch_decode_py, py::arg("layout"), py::arg("frames"),
        py::arg("out"), py::arg("dtype"), py::arg("accumulate"), py::arg("work"), py::arg("stream"),
        ReleaseGil(),
        "Adds up the payloads of frames on the current CUDA device, in their order; waits for "
        "nothing.");
  m.def("cuda_work_bytes", py::overload_cast<const Layout&, std::size_t>(&cuda::work_bytes),
        py::arg("layout"), py::arg("frames") = 1,
        "Bytes of working memory to encode, or to decode so many frames at once.");
  m.def("cuda_sum_work_bytes", py::overload_cast<std::size_t>(&cuda::sum_work_bytes),
        py::arg("segments"),
        "Bytes of working memory of cuda_launch_fold and cuda_launch_find_nonzero, for so many "
        "segments or stretches.");
}

} // namespace thinwire::bind
