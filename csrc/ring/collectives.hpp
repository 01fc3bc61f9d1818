// The collectives of one rank, as operations for its engine.
#pragma once

#include "ring/engine.hpp"
#include "ring/plan_maker.hpp"
#include "ring/tree_operation.hpp"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace thinwire {

// What every collective is told.
struct Call {
  OperationKey key;
  std::string label; // how messages call it: "all_reduce 3"
  const void* in;
  void* out;
  void* residual;  // of the values of `in`, or null
  double deadline; // seconds
};

class Collectives {
public:
  Collectives(Engine& engine, Place place);

  using Work = std::shared_ptr<Operation>;
  // `count` values in and out; the result is the same on all ranks, bit for bit.
  Work all_reduce(const Call& call, std::size_t count, const Reduction& reduction);
  // `count` values in; out: this rank's chunk of even_bounds(count, ranks).
  Work reduce_scatter(const Call& call, std::size_t count, const Reduction& reduction);
  // `count` values (bytes, without a codec) in, ranks * count out, in the order of ranks.
  Work all_gather(const Call& call, std::size_t count, const Movement& movement);
  // `count` values or bytes, from `root`'s input to every output.
  Work broadcast(const Call& call, std::size_t count, int root, const Movement& movement);
  // `count` values or bytes in, divided by even_bounds(count, ranks): part r goes to rank r. Out:
  // the parts for this rank, in the order of ranks.
  Work all_to_all(const Call& call, std::size_t count, const Movement& movement);
  Work barrier(const Call& call);
  // A reduction over a plan of the caller's own making. Ranks must agree on call.label, too.
  Work run_plan(const Call& call, std::shared_ptr<const TreePlan> plan, TreeValues values);

private:
  using Plan = std::shared_ptr<const TreePlan>;
  Work trees(const Call& call, const std::string& description,
             const std::function<TreePlan(std::uint32_t plan_id)>& make, DType residual_dtype,
             double weight = 1);
  Work doubling(const Call& call, const std::string& description, std::size_t count,
                const Reduction& reduction);
  double weight_of(const Reduction& reduction) const;

  Engine& engine_;
  const Place place_;
  std::mutex mutex_;
  // By what ranks agree on, and by what is a rank's own affair.
  std::map<std::pair<std::string, DType>, Plan> plans_;
};

} // namespace thinwire
