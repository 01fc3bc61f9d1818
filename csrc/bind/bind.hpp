// Helpers of the bindings. Buffers cross as addresses; every call that computes releases the GIL.
#pragma once

#include "core/error.hpp"
#include "core/types.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace thinwire::bind {

namespace py = pybind11;
using Address = std::uintptr_t;
// Lets other Python threads run. A daemon thread that wants to go on while Python ends is ended by
// Python before 3.14 with an unwinding of its stack, which pybind11's guard, whose destructor lets
// nothing pass, would turn into the end of the process.
class GilRelease {
public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  ~GilRelease() noexcept(false) { PyEval_RestoreThread(state_); }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

private:
  PyThreadState* state_;
};
using ReleaseGil = py::call_guard<GilRelease>;

inline void* pointer(Address address) { return reinterpret_cast<void*>(address); }
inline const float* floats(Address address) { return static_cast<const float*>(pointer(address)); }
inline float* writable_floats(Address address) { return static_cast<float*>(pointer(address)); }

inline std::span<std::byte> bytes(Address address, std::size_t size) {
  return {static_cast<std::byte*>(pointer(address)), size};
}

inline DType dtype_of(int code) {
  if (code < 0 || code > static_cast<int>(DType::bf16))
    throw InvalidArgument("dtype code " + std::to_string(code) +
                          " does not exist; 0 is fp32, 1 fp16, 2 bf16");
  return static_cast<DType>(code);
}

void register_errors(py::module_& m);
void register_targets(py::module_& m);
void register_hash(py::module_& m);
void register_planes(py::module_& m);
void register_bases(py::module_& m);
void register_low_rank(py::module_& m);
void register_codecs(py::module_& m);
void register_frames(py::module_& m);
void register_comm(py::module_& m);
void register_dedup(py::module_& m);
void register_pool(py::module_& m);
void register_host_block(py::module_& m);
void register_io(py::module_& m);
void register_permutation(py::module_& m);
void register_quality(py::module_& m);
void register_cuda(py::module_& m);

} // namespace thinwire::bind
