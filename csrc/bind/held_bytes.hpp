// Buffers of Python objects as spans of bytes.
#pragma once

#include "bind/bind.hpp"

namespace thinwire::bind {

// The bytes of a Python object, which stay in place as long as this lives. It asks Python itself:
// py::buffer_info allocates, which takes as long as hashing some ten thousand bytes.
class HeldBytes {
public:
  enum class Access { read, write };

  // Throws InvalidArgument for a buffer with gaps; BufferError where it may not be written to.
  explicit HeldBytes(const py::buffer& buffer, Access access = Access::read) {
    const int flags = access == Access::read ? PyBUF_FULL_RO : PyBUF_FULL;
    if (PyObject_GetBuffer(buffer.ptr(), &view_, flags) != 0)
      throw py::error_already_set();
    if (PyBuffer_IsContiguous(&view_, 'C') == 0) {
      PyBuffer_Release(&view_);
      throw InvalidArgument("the data must be contiguous");
    }
  }
  ~HeldBytes() { PyBuffer_Release(&view_); }
  HeldBytes(const HeldBytes&) = delete;
  HeldBytes& operator=(const HeldBytes&) = delete;

  std::span<std::byte> bytes() const {
    return {static_cast<std::byte*>(view_.buf), static_cast<std::size_t>(view_.len)};
  }

private:
  Py_buffer view_;
};

} // namespace thinwire::bind
