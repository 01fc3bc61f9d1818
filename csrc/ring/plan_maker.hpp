// Turns the arguments of a collective into a plan. Pure arithmetic, the same on every rank but for
// the roles.
#pragma once

#include "ring/plan.hpp"

#include <memory>
#include <optional>
#include <string>

namespace thinwire {

// One rank among all.
struct Place {
  int rank;
  Topology topology;
};

// How values are added and coded.
struct Reduction {
  DType dtype = DType::fp32;
  Combine combine = Combine::add;
  bool is_mean = false;
  std::optional<double> weight = {}; // in place of 1, or of 1 / ranks for a mean
  CodecSpec codec = {};
  std::optional<Algorithm> algorithm = {}; // none: choose_algorithm
  DType residual_dtype = DType::fp32;
};

// What is moved: values through a codec, or, without one, bytes as they are.
struct Movement {
  std::optional<CodecSpec> codec = {};
  DType dtype = DType::fp32;
  std::optional<Algorithm> algorithm = {};
  DType residual_dtype = DType::fp32;
  std::size_t value_bytes = 1; // without a codec: of what all_to_all must not divide
};

// What ranks must agree on, for people to read, without the operation's name.
std::string describe(std::size_t count, const Reduction& reduction, Algorithm algorithm);
std::string describe(std::size_t count, const Movement& movement, Algorithm algorithm);

// The algorithm of a call. Throws InvalidArgument where the one asked for cannot do it.
Algorithm reduce_algorithm(const Topology& topology, std::size_t count, const Reduction& reduction,
                           Travel travel);
Algorithm gather_algorithm(const Topology& topology, std::size_t count, const Movement& movement);
Algorithm broadcast_algorithm(const Topology& topology, std::size_t count,
                              const Movement& movement);

// `count`: values, or bytes where they are moved as they are, of one rank's input.
TreePlan all_reduce_plan(const Place& place, std::size_t count, const Reduction& reduction,
                         Algorithm algorithm, std::uint32_t plan_id);
TreePlan reduce_scatter_plan(const Place& place, std::size_t count, const Reduction& reduction,
                             Algorithm algorithm, std::uint32_t plan_id);
TreePlan all_gather_plan(const Place& place, std::size_t count, const Movement& movement,
                         Algorithm algorithm, std::uint32_t plan_id);
TreePlan broadcast_plan(const Place& place, std::size_t count, int root, const Movement& movement,
                        Algorithm algorithm, std::uint32_t plan_id);
TreePlan all_to_all_plan(const Place& place, std::size_t count, const Movement& movement,
                         std::uint32_t plan_id);

} // namespace thinwire
