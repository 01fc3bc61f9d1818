#include "bind/bind.hpp"
#include "bind/pool_block.hpp"
#include "pool/device_stream.hpp"

#include <atomic>
#include <string>
#include <vector>

namespace thinwire::bind {
namespace {

// A block of a pool as a Python buffer, C-contiguous and writable. It goes back to the pool with
// its last reference, and no Python code runs for that: a garbage collector or an ending
// interpreter may drop it anywhere.
class HostBlock {
public:
  HostBlock(py::object pool, std::vector<py::ssize_t> shape, py::ssize_t item_bytes,
            std::string format, std::size_t alignment)
      : owner_(std::move(pool)), pool_(py::cast<HostPool&>(owner_)), shape_(std::move(shape)),
        strides_(shape_.size()), item_bytes_(item_bytes), format_(std::move(format)),
        bytes_(item_bytes) {
    for (std::size_t axis = shape_.size(); axis-- > 0; bytes_ *= shape_[axis])
      strides_[axis] = bytes_;
    memory_ = allocate_block(pool_, static_cast<std::size_t>(bytes_), alignment);
  }
  ~HostBlock() { free(); }
  HostBlock(const HostBlock&) = delete;
  HostBlock& operator=(const HostBlock&) = delete;

  Address address() const { return reinterpret_cast<Address>(held()); }
  py::ssize_t bytes() const { return bytes_; }
  const char* tier() const { return name_of(pool_.tier(held())); }
  py::tuple shape() const { return py::tuple(py::cast(shape_)); }

  // False where a view still has the memory.
  bool free() {
    int views = 0;
    if (!views_.compare_exchange_strong(views, kFreed))
      return views == kFreed;
    if (streams_.empty())
      pool_.free(memory_);
    else
      pool_.free_after_streams(memory_, streams_);
    return true;
  }

  void wait_for_stream(int device, Address stream) {
    streams_.push_back({device, pointer(stream)});
  }

  static int fill(PyObject* self, Py_buffer* view, int flags) noexcept {
    view->obj = nullptr;
    try {
      return py::cast<HostBlock&>(py::handle(self)).fill_view(self, view, flags);
    } catch (const std::exception& error) {
      PyErr_SetString(PyExc_BufferError, error.what());
      return -1;
    }
  }
  static void release(PyObject* self, Py_buffer*) noexcept {
    --py::cast<HostBlock&>(py::handle(self)).views_;
  }

private:
  static constexpr int kFreed = -1;

  std::byte* held() const {
    check_held(views_);
    return memory_;
  }

  static void check_held(int views) {
    if (views == kFreed)
      throw InvalidArgument("this array was freed");
  }

  void add_view() {
    int views = views_;
    do
      check_held(views);
    while (!views_.compare_exchange_weak(views, views + 1));
  }

  int fill_view(PyObject* self, Py_buffer* view, int flags) {
    const auto asked = [flags](int what) { return (flags & what) == what; };
    if (asked(PyBUF_F_CONTIGUOUS) && shape_.size() > 1)
      throw InvalidArgument("the array is C-contiguous, not Fortran-contiguous");
    add_view();
    if (PyBuffer_FillInfo(view, self, memory_, bytes_, 0, flags) != 0) {
      --views_;
      return -1;
    }
    view->itemsize = item_bytes_;
    if (asked(PyBUF_FORMAT))
      view->format = format_.data();
    if (asked(PyBUF_ND)) {
      view->ndim = static_cast<int>(shape_.size());
      view->shape = shape_.data();
    }
    if (asked(PyBUF_STRIDES))
      view->strides = strides_.data();
    return 0;
  }

  py::object owner_; // the pool
  HostPool& pool_;
  std::vector<py::ssize_t> shape_;
  std::vector<py::ssize_t> strides_; // in bytes
  py::ssize_t item_bytes_;
  std::string format_; // of one item, as in Python's module struct
  py::ssize_t bytes_;
  std::byte* memory_ = nullptr;
  std::vector<DeviceStream> streams_; // whose work may use the memory
  std::atomic<int> views_ = 0;        // or kFreed
};

void give_buffers(PyHeapTypeObject* type) {
  type->ht_type.tp_as_buffer = &type->as_buffer;
  type->as_buffer.bf_getbuffer = &HostBlock::fill;
  type->as_buffer.bf_releasebuffer = &HostBlock::release;
}

} // namespace

void register_host_block(py::module_& m) {
  py::class_<HostBlock>(m, "HostBlock", py::custom_type_setup(&give_buffers),
                        "Memory of a HostPool as a buffer; freed when the last view has died.")
      .def(py::init<py::object, std::vector<py::ssize_t>, py::ssize_t, std::string, std::size_t>(),
           py::arg("pool"), py::arg("shape"), py::arg("item_bytes"), py::arg("format"),
           py::arg("alignment"))
      .def_property_readonly("address", &HostBlock::address)
      .def_property_readonly("nbytes", &HostBlock::bytes)
      .def_property_readonly("shape", &HostBlock::shape)
      .def_property_readonly("tier", &HostBlock::tier)
      .def("wait_for_stream", &HostBlock::wait_for_stream, py::arg("device"), py::arg("stream"),
           "The memory is used again only when what the stream has to do at free is done.")
      .def("free", &HostBlock::free, "Gives the memory back now; False where a view still has it.");
}

} // namespace thinwire::bind
