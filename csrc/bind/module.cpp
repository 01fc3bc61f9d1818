#include "bind/bind.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  using namespace thinwire::bind;
  m.doc() = "The native core of thinwire. Buffers cross as addresses; thinwire's Python layer "
            "checks them first.";
  m.attr("__version__") = THINWIRE_VERSION;
  register_errors(m);
  register_targets(m);
  register_hash(m);
  register_planes(m);
  register_bases(m);
  register_low_rank(m);
  register_codecs(m);
  register_frames(m);
  register_comm(m);
  register_dedup(m);
  register_pool(m);
  register_host_block(m);
  register_io(m);
  register_permutation(m);
  register_quality(m);
  register_cuda(m);
}
