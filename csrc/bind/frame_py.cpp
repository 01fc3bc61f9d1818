#include "bind/frame_values.hpp"
#include "transport/link.hpp"

namespace thinwire::bind {
namespace {

void fold_py(const Layout& layout, Address x, int dtype, float scale, const Addresses& residual_in,
             int residual_dtype, const Flags& held, Address out) {
  const Values values(x, dtype, scale, residual_in, std::nullopt, residual_dtype, held);
  fold(layout, values.view, static_cast<float*>(pointer(out)));
}

std::size_t encode_py(const Layout& layout, const FrameHeader& header, Address x, int dtype,
                      float scale, const Addresses& residual_in, const Addresses& residual_out,
                      int residual_dtype, const Flags& held, std::uint64_t key, Address out,
                      std::size_t out_bytes) {
  const Values values(x, dtype, scale, residual_in, residual_out, residual_dtype, held);
  return encode_frame(layout, header, values.view, key, bytes(out, out_bytes));
}

FrameHeader make_header(std::uint64_t group, std::uint64_t step, std::uint32_t bucket,
                        std::uint32_t slice, std::uint32_t sender, std::uint8_t phase,
                        double weight, std::uint64_t control) {
  FrameHeader header;
  header.group = group;
  header.step = step;
  header.bucket = bucket;
  header.slice = slice;
  header.sender = sender;
  header.phase = phase;
  header.weight = weight;
  header.control = control;
  return header;
}

} // namespace

void register_frames(py::module_& m) {
  m.attr("FLAG_ABORTED") = static_cast<std::uint32_t>(kFlagAborted);
  m.attr("FLAG_NONFINITE") = static_cast<std::uint32_t>(kFlagNonfinite);
  m.attr("HEADER_BYTES") = kHeaderBytes;
  m.attr("MAX_PAYLOAD_BYTES") = kMaxPayload;
  m.attr("WIRE_VERSION") = kFrameVersion;

  py::class_<FrameHeader>(m, "Header",
                          "The header of a frame. codec, param, dtype, flags, count and "
                          "payload_bytes are set by encoding.")
      .def(py::init(&make_header), py::kw_only(), py::arg("group") = 0, py::arg("step") = 0,
           py::arg("bucket") = 0, py::arg("slice") = 0, py::arg("sender") = 0, py::arg("phase") = 0,
           py::arg("weight") = 1.0, py::arg("control") = 0)
      .def_readwrite("group", &FrameHeader::group)
      .def_readwrite("step", &FrameHeader::step)
      .def_readwrite("bucket", &FrameHeader::bucket)
      .def_readwrite("slice", &FrameHeader::slice)
      .def_readwrite("sender", &FrameHeader::sender)
      .def_readwrite("phase", &FrameHeader::phase)
      .def_readwrite("weight", &FrameHeader::weight)
      .def_readwrite("control", &FrameHeader::control)
      .def_readonly("param", &FrameHeader::param)
      .def_readonly("codec", &FrameHeader::codec)
      .def_readonly("dtype", &FrameHeader::dtype)
      .def_readonly("flags", &FrameHeader::flags)
      .def_readonly("count", &FrameHeader::count)
      .def_readonly("payload_bytes", &FrameHeader::payload_bytes);

  m.def("fold", &fold_py, py::arg("layout"), py::arg("x"), py::arg("dtype"), py::arg("scale"),
        py::arg("residual_in"), py::arg("residual_dtype"), py::arg("held"), py::arg("out"),
        ReleaseGil(),
        "out (fp32) = x * scale + residual_in; a held segment leaves its residual out.");
  m.def("encode_frame", &encode_py, py::arg("layout"), py::arg("header"), py::arg("x"),
        py::arg("dtype"), py::arg("scale"), py::arg("residual_in"), py::arg("residual_out"),
        py::arg("residual_dtype"), py::arg("held"), py::arg("key"), py::arg("out"),
        py::arg("out_bytes"), ReleaseGil(),
        "Encodes one frame; returns how many blocks (values, for 16 and 32 bit codecs) were not "
        "finite.");
  m.def(
      "decode_frame",
      [](const Layout& layout, Address frame, std::size_t frame_bytes, Address out, int dtype,
         bool accumulate) {
        return decode_frame(layout, bytes(frame, frame_bytes), pointer(out), dtype_of(dtype),
                            accumulate);
      },
      py::arg("layout"), py::arg("frame"), py::arg("frame_bytes"), py::arg("out"), py::arg("dtype"),
      py::arg("accumulate"), ReleaseGil(),
      "Checks and decodes one frame; an aborted one leaves out as it is.");
  m.def(
      "read_header",
      [](Address frame, std::size_t frame_bytes) { return open_frame(bytes(frame, frame_bytes)); },
      py::arg("frame"), py::arg("frame_bytes"), ReleaseGil(),
      "The header of a frame, after every check that needs no codec.");
  m.def(
      "write_abort",
      [](const FrameHeader& header, std::uint32_t error_number, const std::string& message,
         Address out, std::size_t out_bytes) {
        return write_abort(header, error_number, message, bytes(out, out_bytes));
      },
      py::arg("header"), py::arg("error_number"), py::arg("message"), py::arg("out"),
      py::arg("out_bytes"), ReleaseGil(),
      "Writes an aborted frame, its message cut to fit; returns its bytes.");
  m.def(
      "abort_reason",
      [](Address frame, std::size_t frame_bytes) {
        const FrameHeader header = open_frame(bytes(frame, frame_bytes));
        const char* text = static_cast<const char*>(pointer(frame)) + kHeaderBytes;
        PyObject* message =
            PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(header.payload_bytes), "replace");
        return py::make_tuple(header.param, py::reinterpret_steal<py::str>(message));
      },
      py::arg("frame"), py::arg("frame_bytes"), "Error number and message of an aborted frame.");
  m.def(
      "is_zero",
      [](Address x, std::size_t n, int dtype) { return is_zero(pointer(x), n, dtype_of(dtype)); },
      py::arg("x"), py::arg("n"), py::arg("dtype"), ReleaseGil(),
      "Whether every value is +0 or -0.");
  m.def(
      "nonfinite_count",
      [](Address x, std::size_t n, int dtype) {
        return count_nonfinite(pointer(x), n, dtype_of(dtype));
      },
      py::arg("x"), py::arg("n"), py::arg("dtype"), ReleaseGil(),
      "How many values are NaN or infinite.");
}

} // namespace thinwire::bind
