// What a collective is told, and what comes of it.
#include "bind/collectives_py.hpp"

namespace thinwire::bind {
namespace {

Call make_call(std::uint64_t number, std::uint32_t space, const std::string& label, Address in,
               Address out, Address residual, double deadline) {
  return {.key = {number, space},
          .label = label,
          .in = pointer(in),
          .out = pointer(out),
          .residual = pointer(residual),
          .deadline = deadline};
}

std::optional<Algorithm> algorithm_or_auto(const std::string& name) {
  if (name == "auto")
    return std::nullopt;
  return algorithm_of(name);
}

Reduction make_reduction(int dtype, const std::string& op, std::optional<double> weight,
                         const CodecSpec& codec, const std::string& algorithm, int residual_dtype) {
  return {.dtype = dtype_of(dtype),
          .combine = op == "max" ? Combine::max : Combine::add,
          .is_mean = op == "mean",
          .weight = weight,
          .codec = codec,
          .algorithm = algorithm_or_auto(algorithm),
          .residual_dtype = dtype_of(residual_dtype)};
}

Movement make_movement(int dtype, const std::optional<CodecSpec>& codec, std::size_t value_bytes,
                       const std::string& algorithm, int residual_dtype) {
  return {.codec = codec,
          .dtype = dtype_of(dtype),
          .algorithm = algorithm_or_auto(algorithm),
          .residual_dtype = dtype_of(residual_dtype),
          .value_bytes = value_bytes};
}

// (slice, owner, error number, reason) of every slice that failed, by slice.
py::list slice_failures(const Operation& operation) {
  py::list found;
  for (const SliceFailure& slice : operation.outcome().slices)
    found.append(py::make_tuple(slice.slice, slice.owner,
                                static_cast<std::uint32_t>(slice.failure.number),
                                slice.failure.reason));
  return found;
}

void register_arguments(py::module_& m) {
  py::class_<Call>(m, "Call", "Which operation it is, and where its values lie.")
      .def(py::init(&make_call), py::arg("number"), py::arg("space"), py::arg("label"),
           py::arg("source"), py::arg("target"), py::arg("residual"), py::arg("deadline"));
  py::class_<Reduction>(m, "Reduction", "How values are added and coded.")
      .def(py::init(&make_reduction), py::arg("dtype"), py::arg("op"), py::arg("weight"),
           py::arg("codec"), py::arg("algorithm"), py::arg("residual_dtype"));
  py::class_<Movement>(m, "Movement", "What is moved: values through a codec, or bytes.")
      .def(py::init(&make_movement), py::arg("dtype"), py::arg("codec"), py::arg("value_bytes"),
           py::arg("algorithm"), py::arg("residual_dtype"));
}

void register_operation(py::module_& m) {
  py::class_<Operation, std::shared_ptr<Operation>>(m, "Operation",
                                                    "A collective that was started.")
      .def(
          "wait",
          [](Operation& operation, double seconds) {
            return operation.wait_for(to_duration(seconds));
          },
          py::arg("seconds"), ReleaseGil(), "Waits; returns whether it is over.")
      .def("is_over", &Operation::is_over)
      .def(
          "check",
          [](const Operation& operation) {
            if (operation.outcome().failure)
              operation.outcome().failure->raise();
          },
          "Raises the error that ended it, if there was one.")
      .def_property_readonly(
          "nonfinite", [](const Operation& operation) { return operation.outcome().nonfinite; })
      .def_property_readonly("slice_failures", &slice_failures)
      .def_property_readonly(
          "stage_seconds",
          [](const Operation& operation) { return stage_seconds(operation.outcome().costs); })
      .def_property_readonly(
          "sent_bytes",
          [](const Operation& operation) {
            const Costs& costs = operation.outcome().costs;
            return py::make_tuple(costs.sent_up, costs.sent_down);
          },
          "Bytes of the frames sent towards the owners, and from this rank as one.")
      .def_property_readonly(
          "sampled_error",
          [](const Operation& operation) {
            const Outcome& outcome = operation.outcome();
            return py::make_tuple(outcome.sampled_error, outcome.sampled_total);
          },
          "Squared norms of what encoding one sum lost, and of that sum.");
}

} // namespace

py::dict stage_seconds(const Costs& costs) {
  py::dict found;
  found["encode"] = costs.encode;
  found["add"] = costs.add;
  found["result"] = costs.result;
  found["decode"] = costs.decode;
  return found;
}

void register_collectives(py::module_& m) {
  register_arguments(m);
  register_operation(m);
}

} // namespace thinwire::bind
