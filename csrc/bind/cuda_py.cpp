#include "bind/frame_values.hpp"

#include "dispatch/cuda_codec.hpp"
#include "dispatch/frame_steps.hpp"

namespace thinwire::bind {
namespace {

std::byte* block(Address address) { return static_cast<std::byte*>(pointer(address)); }

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
                      Address frame, Address work, Address stream) {
  const Values values(x, dtype, scale, residual_in, residual_out, residual_dtype, held);
  check_values(layout, values.view);
  cuda::encode_payload(layout, values.view, key, step, block(frame), block(work), pointer(stream));
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
        py::arg("frame"), py::arg("work"), py::arg("stream"), ReleaseGil(),
        "Encodes a payload on the current CUDA device into a frame there; waits for nothing.");
  m.def("cuda_launch_decode", &launch_decode_py, py::arg("layout"), py::arg("frames"),
        py::arg("out"), py::arg("dtype"), py::arg("accumulate"), py::arg("work"), py::arg("stream"),
        ReleaseGil(),
        "Adds up the payloads of frames on the current CUDA device, in their order; waits for "
        "nothing.");
  m.def("cuda_work_bytes", &cuda::work_bytes, py::arg("layout"), py::arg("frames") = 1,
        "Bytes of working memory that these two need, for so many frames at once.");
}

} // namespace thinwire::bind
