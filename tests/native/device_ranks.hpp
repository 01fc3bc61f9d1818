// Ranks whose values lie on emulated devices, or on the host: what they are given, and what comes
// out.
#pragma once

#include "engine_ranks.hpp"
#include "host_device.hpp"

#include <optional>

namespace device_ranks {

using namespace engines;
using data::Kind;
using data::Memory;

struct Parameter {
  std::size_t count;
  CodecSpec codec;
  bool keeps = true;    // a residual
  bool is_zero = false; // its gradient, on rank 0
};

struct Case {
  std::vector<Parameter> parameters;
  int ranks = 3;
  Algorithm algorithm = Algorithm::direct;
  std::vector<int> sites = {};
  DType dtype = DType::fp32, residual_dtype = DType::fp32;
  Kind kind = Kind::ordinary;
  std::size_t slice_values = 3000;
  std::size_t window_bytes = 0; // 0: frames travel over the host

  std::size_t count() const {
    std::size_t all = 0;
    for (const Parameter& parameter : parameters)
      all += parameter.count;
    return all;
  }
};

// What a rank has: its gradients, two residual arrays, and perhaps a device that they lie on.
class Worker {
public:
  Worker(const Case& c, int rank, bool is_on_device)
      : case_(c), rank_(rank), bucket_(c.count() * element_bytes(c.dtype)),
        residuals_{residual(0), residual(1)} {
    if (is_on_device)
      device = std::make_shared<emulation::Device>(static_cast<std::uint64_t>(rank) + 1);
  }

  void fill(std::uint64_t step) {
    std::size_t first = 0;
    for (const Parameter& parameter : case_.parameters) {
      const bool is_zero = parameter.is_zero && rank_ == 0;
      const Memory part = data::tensor(is_zero ? Kind::zeros : case_.kind, case_.dtype,
                                       parameter.count, 100 * step + 10 * first + seed());
      std::memcpy(bucket_.data() + first * element_bytes(case_.dtype), part.data(), part.size());
      first += parameter.count;
    }
  }

  std::shared_ptr<const TreePlan> plan() {
    auto plan = std::make_shared<TreePlan>();
    plan->dtype = case_.dtype;
    plan->residual_dtype = case_.residual_dtype;
    plan->check_weights = plan->flag_nonfinite = true;
    plan->plan_id = 5;
    const std::vector<Slice> slices =
        cut_slices(case_.count(), case_.ranks, /*align=*/1, case_.slice_values);
    const Topology topology{case_.ranks, case_.sites};
    for (std::size_t i = 0; i < slices.size(); ++i)
      plan->slices.push_back(
          planned(slices[i], i, role_of(case_.algorithm, topology, slices[i], i, rank_)));
    return plan;
  }

  TreeValues values(std::uint64_t step) {
    TreeValues values{.in = place(bucket_.data()), .out = place(bucket_.data())};
    values.weight = rank_ == 0 ? 1 - 0.25 * (case_.ranks - 1) : 0.25;
    values.step = step;
    values.source = static_cast<int>(step % 2);
    values.target = 1 - values.source;
    values.sample = 1;
    if (device)
      values.where = OnDevice{.device = device, .ready = device->ready(), .watched = watched()};
    else
      values.held = held();
    return values;
  }

  std::shared_ptr<emulation::Device> device;
  const Memory& bucket() const { return bucket_; }
  bool operator==(const Worker& other) const {
    return bucket_ == other.bucket_ && residuals_[0] == other.residuals_[0] &&
           residuals_[1] == other.residuals_[1];
  }

private:
  std::uint64_t seed() const { return static_cast<std::uint64_t>(rank_) + 1; }
  Memory residual(std::uint64_t which) const {
    return data::tensor(Kind::ordinary, case_.residual_dtype, case_.count(), seed() + 77 * which);
  }
  template <class T> T* place(T* memory) const {
    return device ? emulation::on_device(memory) : memory;
  }

  std::vector<Watched> watched() const {
    std::vector<Watched> found;
    std::size_t first = 0;
    for (std::size_t p = 0; p < case_.parameters.size(); ++p) {
      if (case_.parameters[p].keeps)
        found.push_back({static_cast<std::uint32_t>(p), first, case_.parameters[p].count});
      first += case_.parameters[p].count;
    }
    return found;
  }

  // What a device finds out by itself.
  std::vector<std::uint8_t> held() const {
    std::vector<std::uint8_t> found(case_.parameters.size());
    for (const Watched& w : watched())
      found[w.parameter] =
          is_zero(bucket_.data() + w.first * element_bytes(case_.dtype), w.count, case_.dtype);
    return found;
  }

  PlannedSlice planned(const Slice& slice, std::size_t index, Role role) {
    std::vector<SegmentSpec> segments;
    std::vector<std::uint32_t> parameters;
    std::array<std::vector<void*>, 2> residuals;
    std::size_t first = 0;
    for (std::size_t p = 0; p < case_.parameters.size(); ++p) {
      const Parameter& parameter = case_.parameters[p];
      const std::size_t begin = std::max(first, slice.first);
      const std::size_t end = std::min(first + parameter.count, slice.first + slice.count);
      first += parameter.count;
      if (begin >= end)
        continue;
      segments.push_back({end - begin, parameter.codec});
      parameters.push_back(static_cast<std::uint32_t>(p));
      for (std::size_t which : {0, 1})
        residuals[which].push_back(
            parameter.keeps
                ? place(residuals_[which].data() + begin * element_bytes(case_.residual_dtype))
                : nullptr);
    }
    if (std::none_of(case_.parameters.begin(), case_.parameters.end(),
                     [](const Parameter& parameter) { return parameter.keeps; }))
      residuals = {};
    return {.id = static_cast<std::uint32_t>(index),
            .first_in = slice.first,
            .first_out = slice.first,
            .count = slice.count,
            .owner = slice.owner,
            .round = slice.round,
            .role = std::move(role),
            .layout = Layout(segments, 5),
            .parameters = parameters,
            .residuals = residuals,
            .key_seed = index + 1};
  }

  const Case& case_;
  const int rank_;
  Memory bucket_;
  std::array<Memory, 2> residuals_;
};

using Workers = std::vector<std::unique_ptr<Worker>>;

inline Workers workers_of(const Case& c, const std::vector<bool>& on_device) {
  Workers ranks;
  for (int rank = 0; rank < c.ranks; ++rank) {
    ranks.push_back(std::make_unique<Worker>(c, rank, on_device[static_cast<std::size_t>(rank)]));
    ranks.back()->fill(0);
  }
  return ranks;
}

inline Collectives::Work submit(Group& group, Worker& worker, int number, std::uint64_t step,
                                double deadline = kDeadline) {
  return group.at(number).collectives.run_plan(call(step + 1, nullptr, nullptr, deadline),
                                               worker.plan(), worker.values(step));
}

struct Result {
  Workers ranks;
  std::vector<Outcome> outcomes; // of the last step
  std::vector<EngineStats> stats;
};

inline Result run(const Case& c, const std::vector<bool>& on_device, std::uint64_t steps = 2) {
  Group group(c.ranks, LinkKind::inproc, 30, {}, Links::all, c.sites, c.window_bytes);
  Result result{workers_of(c, on_device), {}, {}};
  for (std::uint64_t step = 0; step < steps; ++step) {
    std::vector<Collectives::Work> works;
    for (int rank = 0; rank < c.ranks; ++rank) {
      Worker& mine = *result.ranks[static_cast<std::size_t>(rank)];
      mine.fill(step);
      works.push_back(submit(group, mine, rank, step));
    }
    result.outcomes.clear();
    for (const Collectives::Work& work : works) {
      CHECK(error_of(work).empty());
      result.outcomes.push_back(work->outcome());
    }
  }
  for (const auto& rank : group.ranks)
    result.stats.push_back(rank->engine.stats());
  return result;
}

// Parameters of all codecs, of ragged sizes: some keep no residual, some gradients are all zero.
inline std::vector<Parameter> every_codec() {
  std::vector<Parameter> found;
  for (const CodecSpec& codec : thinwire::codec_defaults())
    found.push_back({.count = 700 + 331 * found.size(),
                     .codec = codec,
                     .keeps = found.size() % 4 != 3,
                     .is_zero = found.size() % 5 == 1});
  return found;
}

inline std::vector<Parameter> raw_only() {
  return {{20000, CodecSpec::make("raw"), /*keeps=*/false}};
}

inline std::vector<Parameter> int8_only() { return {{9001, CodecSpec::make("int8")}}; }

} // namespace device_ranks
