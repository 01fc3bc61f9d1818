// Native errors become the classes of thinwire.errors.
#include "bind/bind.hpp"

namespace thinwire::bind {
namespace {

void raise(const char* class_name, const std::exception& error) {
  const py::object type = py::module_::import("thinwire.errors").attr(class_name);
  py::set_error(type, error.what());
}

void raise_peer_lost(const PeerLost& error) {
  const py::object type = py::module_::import("thinwire.errors").attr("PeerLost");
  const py::object instance = type(error.what(), error.rank);
  PyErr_SetObject(type.ptr(), instance.ptr());
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
  } catch (const PeerLost& e) {
    raise_peer_lost(e);
  } catch (const TransportError& e) {
    raise("TransportError", e);
  } catch (const PoolExhausted& e) {
    raise("PoolExhausted", e);
  } catch (const Timeout& e) {
    raise("Timeout", e);
  } catch (const Error& e) {
    raise("Error", e);
  }
}

} // namespace

void register_errors(py::module_&) { py::register_local_exception_translator(&translate); }

} // namespace thinwire::bind
