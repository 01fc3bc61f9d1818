#include "ring/plan_maker.hpp"

#include "core/error.hpp"
#include "hash/xxh3.hpp"
#include "transport/link.hpp"

#include <algorithm>
#include <numeric>

namespace thinwire {
namespace {

constexpr std::size_t kSliceBytes = 4 * kSliceValuesRaw;     // where bytes are moved as they are
constexpr std::size_t kLongBroadcast = std::size_t{1} << 18; // bytes; from here a chain is better

const char* name(DType dtype) {
  return dtype == DType::fp32 ? "float32" : dtype == DType::fp16 ? "float16" : "bfloat16";
}

// 16-bit values travel in 16 bits where no codec was asked for.
CodecSpec wire_codec(const CodecSpec& codec, DType dtype) {
  if (codec.wire_id != Raw::kWireId || dtype == DType::fp32)
    return codec;
  return CodecSpec::make(dtype == DType::fp16 ? Fp16::kName : Bf16::kName);
}

bool is_compressed(const Reduction& reduction) { return reduction.codec.wire_id != Raw::kWireId; }

std::string describe(const CodecSpec& codec) {
  return std::string("codec ") + codec.name() + " (parameters " + std::to_string(codec.param()) +
         ")";
}

std::size_t slice_values(const CodecSpec& codec) {
  return codec.wire_id == Raw::kWireId ? kSliceValuesRaw : kSliceValuesCoded;
}

std::size_t slice_values(const Movement& movement) {
  return movement.codec ? slice_values(*movement.codec) : kSliceBytes;
}

TreePlan reduction_plan(Travel travel, const Reduction& reduction, std::uint32_t plan_id) {
  return {.travel = travel,
          .combine = reduction.combine,
          .dtype = reduction.dtype,
          .residual_dtype = reduction.residual_dtype,
          .check_weights = reduction.weight.has_value(),
          .plan_id = plan_id};
}

TreePlan movement_plan(const Movement& movement, std::uint32_t plan_id) {
  return {.travel = Travel::down,
          .dtype = movement.dtype,
          .residual_dtype = movement.residual_dtype,
          .verbatim = !movement.codec,
          .plan_id = plan_id};
}

std::uint64_t key_seed(int rank, std::size_t index) {
  const std::uint64_t who_and_what[] = {static_cast<std::uint64_t>(rank), index};
  return xxh3_64(who_and_what, sizeof who_and_what);
}

void add_slices(TreePlan& plan, const std::vector<Slice>& slices, const Place& place,
                Algorithm algorithm, const CodecSpec& codec, bool is_compressed) {
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const Slice& slice = slices[i];
    Role role = role_of(algorithm, place.topology, slice, i, place.rank);
    role.up_exact &= is_compressed; // else the values travel as they are anyway
    plan.slices.push_back({.id = static_cast<std::uint32_t>(i),
                           .first_in = slice.first,
                           .first_out = slice.first,
                           .count = slice.count,
                           .owner = slice.owner,
                           .round = slice.round,
                           .role = std::move(role),
                           .layout = Layout({{slice.count, codec}}, plan.plan_id),
                           .key_seed = key_seed(place.rank, i)});
  }
}

void require_trees(Algorithm algorithm, const char* what) {
  if (algorithm == Algorithm::doubling)
    throw InvalidArgument(std::string(what) +
                          " cannot be done by doubling; leave the algorithm out");
}

} // namespace

std::string describe(std::size_t count, const Reduction& reduction, Algorithm algorithm) {
  return std::to_string(count) + " " + name(reduction.dtype) + " values, " +
         (reduction.combine == Combine::max ? "max"
          : reduction.weight                ? "weighted sum"
          : reduction.is_mean               ? "mean"
                                            : "sum") +
         ", " + describe(reduction.codec) + ", algorithm " + thinwire::name(algorithm);
}

std::string describe(std::size_t count, const Movement& movement, Algorithm algorithm) {
  const std::string what =
      movement.codec ? std::string(name(movement.dtype)) + " values, " + describe(*movement.codec)
                     : "bytes of values of " + std::to_string(movement.value_bytes);
  return std::to_string(count) + " " + what + ", algorithm " + thinwire::name(algorithm);
}

Algorithm reduce_algorithm(const Topology& topology, std::size_t count, const Reduction& reduction,
                           Travel travel) {
  const bool is_exact = !is_compressed(reduction);
  if (!reduction.algorithm)
    return choose_algorithm(topology, count, !is_exact || travel == Travel::up);
  if (*reduction.algorithm == Algorithm::doubling) {
    if (travel == Travel::up)
      require_trees(*reduction.algorithm, "reduce_scatter");
    if (!is_exact)
      throw InvalidArgument("doubling sends values as they are; with codec " +
                            std::string(reduction.codec.name()) + " choose another algorithm");
    if (count * sizeof(float) > kMaxPayload)
      throw InvalidArgument("doubling sends a buffer in one frame, at most " +
                            std::to_string(kMaxPayload / sizeof(float)) + " values; this one has " +
                            std::to_string(count));
  }
  return *reduction.algorithm;
}

Algorithm gather_algorithm(const Topology& topology, std::size_t count, const Movement& movement) {
  if (movement.algorithm)
    require_trees(*movement.algorithm, "all_gather");
  return movement.algorithm.value_or(choose_algorithm(topology, count, /*compressed=*/true));
}

Algorithm broadcast_algorithm(const Topology& topology, std::size_t count,
                              const Movement& movement) {
  if (movement.algorithm)
    require_trees(*movement.algorithm, "broadcast");
  const std::size_t bytes = movement.codec ? count * sizeof(float) : count;
  const bool is_chain = topology.ranks > 2 && bytes >= kLongBroadcast;
  return movement.algorithm.value_or(is_chain ? Algorithm::ring : Algorithm::direct);
}

TreePlan all_reduce_plan(const Place& place, std::size_t count, const Reduction& reduction,
                         Algorithm algorithm, std::uint32_t plan_id) {
  const CodecSpec codec = wire_codec(reduction.codec, reduction.dtype);
  const std::size_t block = codec.has_block() ? codec.block : 1;
  TreePlan plan = reduction_plan(Travel::up_and_down, reduction, plan_id);
  add_slices(
      plan,
      cut_slices(count, place.topology.ranks, std::lcm(kSliceAlign, block), slice_values(codec)),
      place, algorithm, codec, is_compressed(reduction));
  return plan;
}

TreePlan reduce_scatter_plan(const Place& place, std::size_t count, const Reduction& reduction,
                             Algorithm algorithm, std::uint32_t plan_id) {
  const CodecSpec codec = wire_codec(reduction.codec, reduction.dtype);
  const std::vector<std::size_t> bounds = even_bounds(count, place.topology.ranks);
  TreePlan plan = reduction_plan(Travel::up, reduction, plan_id);
  add_slices(plan, cut_slices(bounds, slice_values(codec)), place, algorithm, codec,
             is_compressed(reduction));
  for (PlannedSlice& slice : plan.slices)
    if (slice.owner == place.rank)
      slice.first_out -= bounds[static_cast<std::size_t>(place.rank)];
  return plan;
}

TreePlan all_gather_plan(const Place& place, std::size_t count, const Movement& movement,
                         Algorithm algorithm, std::uint32_t plan_id) {
  std::vector<std::size_t> bounds;
  for (int rank = 0; rank <= place.topology.ranks; ++rank)
    bounds.push_back(static_cast<std::size_t>(rank) * count);
  TreePlan plan = movement_plan(movement, plan_id);
  add_slices(plan, cut_slices(bounds, slice_values(movement)), place, algorithm,
             movement.codec.value_or(CodecSpec{}), movement.codec.has_value());
  for (PlannedSlice& slice : plan.slices)
    slice.first_in -= static_cast<std::size_t>(slice.owner) * count;
  return plan;
}

TreePlan broadcast_plan(const Place& place, std::size_t count, int root, const Movement& movement,
                        Algorithm algorithm, std::uint32_t plan_id) {
  std::vector<Slice> slices = cut_slices({0, count}, slice_values(movement));
  for (Slice& slice : slices)
    slice.owner = root;
  TreePlan plan = movement_plan(movement, plan_id);
  add_slices(plan, slices, place, algorithm, movement.codec.value_or(CodecSpec{}),
             movement.codec.has_value());
  return plan;
}

// Part b of rank a's input goes to rank b. Its slice s has number (a * ranks + b) * most + s, where
// `most` is the greatest number of slices a part has.
TreePlan all_to_all_plan(const Place& place, std::size_t count, const Movement& movement,
                         std::uint32_t plan_id) {
  const auto ranks = static_cast<std::size_t>(place.topology.ranks);
  const auto me = static_cast<std::size_t>(place.rank);
  const std::size_t value = movement.codec ? 1 : movement.value_bytes;
  std::vector<std::size_t> bounds = even_bounds(count / value, place.topology.ranks);
  for (std::size_t& bound : bounds)
    bound *= value;
  const std::size_t mine = bounds[me + 1] - bounds[me];
  const std::size_t most = cut_slices({0, bounds[1]}, slice_values(movement)).size();
  const CodecSpec codec = movement.codec.value_or(CodecSpec{});
  TreePlan plan = movement_plan(movement, plan_id);
  const auto add_part = [&](std::size_t from, std::size_t to) {
    const std::vector<Slice> part =
        cut_slices({0, bounds[to + 1] - bounds[to]}, slice_values(movement));
    for (std::size_t s = 0; s < part.size(); ++s) {
      Role role;
      if (from != me)
        role.down_from = static_cast<int>(from);
      else if (to != me)
        role.down_to = {static_cast<int>(to)};
      const std::size_t id = (from * ranks + to) * most + s;
      plan.slices.push_back({.id = static_cast<std::uint32_t>(id),
                             .first_in = bounds[to] + part[s].first,
                             .first_out = to == me ? from * mine + part[s].first : kNowhere,
                             .count = part[s].count,
                             .owner = static_cast<int>(from),
                             .round = part[s].round,
                             .role = std::move(role),
                             .layout = Layout({{part[s].count, codec}}, plan_id),
                             .key_seed = key_seed(place.rank, id)});
    }
  };
  for (std::size_t peer = 0; peer < ranks; ++peer) {
    add_part(me, peer);
    if (peer != me)
      add_part(peer, me);
  }
  std::stable_sort(plan.slices.begin(), plan.slices.end(),
                   [](const PlannedSlice& a, const PlannedSlice& b) { return a.round < b.round; });
  return plan;
}

} // namespace thinwire
