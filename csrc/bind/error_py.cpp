// Native errors become the classes of thinwire.errors.
#include "bind/bind.hpp"

namespace thinwire::bind {
namespace {

void raise(const char* class_name, const std::exception& error) {
  const py::object type = py::module_::import("thinwire.errors").attr(class_name);
  py::set_error(type, error.what());
}

void translate(std::exception_ptr pending) {
  if (!pending)
    return;
  try {
    std::rethrow_exception(pending);
  } catch (const InvalidArgument& e) {
    raise("InvalidArgument", e);
  } catch (const CorruptFrame& e) {
    raise("CorruptFrame", e);
  } catch (const CudaError& e) {
    raise("CudaError", e);
  } catch (const NotBuilt& e) {
    raise("NotBuilt", e);
  } catch (const Error& e) {
    raise("Error", e);
  }
}

} // namespace

void register_errors(py::module_&) { py::register_local_exception_translator(&translate); }

} // namespace thinwire::bind
