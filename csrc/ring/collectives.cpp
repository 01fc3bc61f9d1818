#include "ring/collectives.hpp"

#include "hash/xxh3.hpp"
#include "ring/doubling_operation.hpp"

namespace thinwire {
namespace {

constexpr std::size_t kMostPlans = 64; // that are kept

std::uint32_t plan_id_of(const std::string& description) {
  return static_cast<std::uint32_t>(xxh3_64(description.data(), description.size()));
}

} // namespace

Collectives::Collectives(Engine& engine, Place place) : engine_(engine), place_(std::move(place)) {}

Collectives::Work Collectives::all_reduce(const Call& call, std::size_t count,
                                          const Reduction& reduction) {
  const Algorithm algorithm =
      reduce_algorithm(place_.topology, count, reduction, Travel::up_and_down);
  const std::string description = "all_reduce of " + describe(count, reduction, algorithm);
  if (algorithm == Algorithm::doubling)
    return doubling(call, description, count, reduction);
  return trees(
      call, description,
      [&](std::uint32_t id) { return all_reduce_plan(place_, count, reduction, algorithm, id); },
      reduction.residual_dtype, weight_of(reduction));
}

Collectives::Work Collectives::reduce_scatter(const Call& call, std::size_t count,
                                              const Reduction& reduction) {
  const Algorithm algorithm = reduce_algorithm(place_.topology, count, reduction, Travel::up);
  return trees(
      call, "reduce_scatter of " + describe(count, reduction, algorithm),
      [&](std::uint32_t id) {
        return reduce_scatter_plan(place_, count, reduction, algorithm, id);
      },
      reduction.residual_dtype, weight_of(reduction));
}

Collectives::Work Collectives::all_gather(const Call& call, std::size_t count,
                                          const Movement& movement) {
  const Algorithm algorithm = gather_algorithm(place_.topology, count, movement);
  return trees(
      call, "all_gather of " + describe(count, movement, algorithm),
      [&](std::uint32_t id) { return all_gather_plan(place_, count, movement, algorithm, id); },
      movement.residual_dtype);
}

Collectives::Work Collectives::broadcast(const Call& call, std::size_t count, int root,
                                         const Movement& movement) {
  const Algorithm algorithm = broadcast_algorithm(place_.topology, count, movement);
  return trees(
      call,
      "broadcast from rank " + std::to_string(root) + " of " + describe(count, movement, algorithm),
      [&](std::uint32_t id) {
        return broadcast_plan(place_, count, root, movement, algorithm, id);
      },
      movement.residual_dtype);
}

Collectives::Work Collectives::all_to_all(const Call& call, std::size_t count,
                                          const Movement& movement) {
  return trees(
      call, "all_to_all of " + describe(count, movement, Algorithm::direct),
      [&](std::uint32_t id) { return all_to_all_plan(place_, count, movement, id); },
      movement.residual_dtype);
}

Collectives::Work Collectives::barrier(const Call& call) {
  return doubling(call, "barrier", 0, {});
}

Collectives::Work Collectives::run_plan(const Call& call, Plan plan, TreeValues values) {
  const std::uint32_t id = plan_id_of(call.label + "/" + std::to_string(plan->plan_id));
  auto operation =
      std::make_shared<TreeOperation>(call.key, id, std::move(plan), call.label, std::move(values),
                                      engine_.group(), to_duration(call.deadline));
  engine_.submit(operation);
  return operation;
}

Collectives::Work Collectives::trees(const Call& call, const std::string& description,
                                     const std::function<TreePlan(std::uint32_t)>& make,
                                     DType residual_dtype, double weight) {
  Plan plan;
  {
    const std::lock_guard lock(mutex_);
    const std::pair key(description, residual_dtype);
    if (plans_.size() >= kMostPlans && !plans_.contains(key))
      plans_.clear();
    Plan& known = plans_[key];
    if (!known)
      known = std::make_shared<const TreePlan>(make(plan_id_of(description)));
    plan = known;
  }
  Call labelled = call;
  labelled.label += ": " + description;
  return run_plan(labelled, std::move(plan),
                  {.in = call.in,
                   .out = call.out,
                   .weight = weight,
                   .step = call.key.step,
                   .residual = call.residual});
}

Collectives::Work Collectives::doubling(const Call& call, const std::string& description,
                                        std::size_t count, const Reduction& reduction) {
  DoublingPlan plan{.combine = reduction.combine,
                    .dtype = reduction.dtype,
                    .residual_dtype = reduction.residual_dtype,
                    .check_weights = reduction.weight.has_value(),
                    .plan_id = plan_id_of(description),
                    .description = call.label + ": " + description,
                    .count = count,
                    .steps = doubling_steps(place_.topology.ranks, place_.rank)};
  auto operation = std::make_shared<DoublingOperation>(call.key, std::move(plan), call.in, call.out,
                                                       call.residual, weight_of(reduction),
                                                       engine_.group(), to_duration(call.deadline));
  engine_.submit(operation);
  return operation;
}

double Collectives::weight_of(const Reduction& reduction) const {
  return reduction.weight.value_or(reduction.is_mean ? 1.0 / place_.topology.ranks : 1.0);
}

} // namespace thinwire
