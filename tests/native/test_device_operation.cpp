// Sums of values on a device, emulated: the bits of the host, whatever the schedule, the codecs and
// the cut; failures and deadlines end them everywhere.
#include "engine_ranks.hpp"
#include "host_device.hpp"

#include <optional>
#include <thread>

namespace {

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

Workers workers_of(const Case& c, const std::vector<bool>& on_device) {
  Workers ranks;
  for (int rank = 0; rank < c.ranks; ++rank) {
    ranks.push_back(std::make_unique<Worker>(c, rank, on_device[static_cast<std::size_t>(rank)]));
    ranks.back()->fill(0);
  }
  return ranks;
}

Collectives::Work submit(Group& group, Worker& worker, int number, std::uint64_t step,
                         double deadline = kDeadline) {
  return group.at(number).collectives.run_plan(call(step + 1, nullptr, nullptr, deadline),
                                               worker.plan(), worker.values(step));
}

struct Result {
  Workers ranks;
  std::vector<Outcome> outcomes; // of the last step
};

Result run(const Case& c, const std::vector<bool>& on_device, std::uint64_t steps = 2) {
  Group group(c.ranks, LinkKind::inproc, 30, {}, Links::all, c.sites);
  Result result{workers_of(c, on_device), {}};
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
  return result;
}

// Every rank on the host, every rank on a device, and every other one.
void check_case(const Case& c) {
  const auto ranks = static_cast<std::size_t>(c.ranks);
  const Result host = run(c, std::vector<bool>(ranks, false));
  std::vector<bool> mixed(ranks);
  for (std::size_t rank = 0; rank < ranks; rank += 2)
    mixed[rank] = true;
  for (const std::vector<bool>& on_device : {std::vector<bool>(ranks, true), mixed}) {
    const Result found = run(c, on_device);
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      CHECK(*found.ranks[rank] == *host.ranks[rank]);
      CHECK(found.ranks[rank]->bucket() == host.ranks[0]->bucket());
      CHECK(found.outcomes[rank].nonfinite == host.outcomes[rank].nonfinite);
      if (!host.outcomes[rank].nonfinite) { // or they may be NaN
        CHECK(found.outcomes[rank].sampled_error == host.outcomes[rank].sampled_error);
        CHECK(found.outcomes[rank].sampled_total == host.outcomes[rank].sampled_total);
      }
      CHECK(found.outcomes[rank].costs.sent_up == host.outcomes[rank].costs.sent_up);
      CHECK(found.outcomes[rank].costs.sent_down == host.outcomes[rank].costs.sent_down);
    }
  }
}

// Parameters of all codecs, of ragged sizes: some keep no residual, some gradients are all zero.
std::vector<Parameter> every_codec() {
  std::vector<Parameter> found;
  for (const CodecSpec& codec : thinwire::codec_defaults())
    found.push_back({.count = 700 + 331 * found.size(),
                     .codec = codec,
                     .keeps = found.size() % 4 != 3,
                     .is_zero = found.size() % 5 == 1});
  return found;
}

std::vector<Parameter> int8_only() { return {{9001, CodecSpec::make("int8")}}; }

} // namespace

TEST(all_codecs_and_schedules) {
  for (Algorithm algorithm : {Algorithm::direct, Algorithm::ring, Algorithm::bidirectional})
    for (int ranks : {1, 2, 4}) {
      check::context = std::string(name(algorithm)) + " ranks=" + std::to_string(ranks);
      check_case({.parameters = every_codec(), .ranks = ranks, .algorithm = algorithm});
    }
}

TEST(sums_that_are_exact_inside_a_site) {
  check_case({.parameters = every_codec(),
              .ranks = 4,
              .algorithm = Algorithm::hierarchical,
              .sites = {0, 0, 1, 1}});
}

TEST(values_of_other_types_and_kinds) {
  for (DType dtype : {DType::fp16, DType::bf16})
    check_case({.parameters = every_codec(), .dtype = dtype, .residual_dtype = DType::bf16});
  for (Kind kind : {Kind::special, Kind::sparse, Kind::zeros})
    check_case({.parameters = every_codec(), .ranks = 2, .kind = kind});
}

TEST(values_that_travel_raw) {
  for (Algorithm algorithm : {Algorithm::direct, Algorithm::ring})
    check_case({.parameters = {{20000, CodecSpec::make("raw"), false}}, .algorithm = algorithm});
}

TEST(more_slices_than_the_window_holds) {
  check_case({.parameters = {{200000, CodecSpec::make("int4")}}, .ranks = 2, .slice_values = 64});
}

TEST(values_are_not_touched_before_they_are_ready) {
  const Case c{.parameters = every_codec(), .ranks = 2};
  const Result expected = run(c, {false, false}, 1);
  Group group(2, LinkKind::inproc);
  const Workers ranks = workers_of(c, {true, true});
  ranks[0]->device->set_ready(false);
  ranks[0]->fill(7); // not the gradients yet
  const auto first = submit(group, *ranks[0], 0, 0), second = submit(group, *ranks[1], 1, 0);
  CHECK(!first->wait_for(50ms));
  ranks[0]->fill(0);
  ranks[0]->device->set_ready(true);
  CHECK(error_of(first).empty());
  CHECK(error_of(second).empty());
  CHECK(*ranks[0] == *expected.ranks[0]);
  CHECK(*ranks[1] == *expected.ranks[1]);
}

TEST(a_device_that_fails_ends_the_operation_everywhere) {
  int failed = 0;
  for (int calls : {0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144}) {
    check::context = std::to_string(calls) + " calls";
    const Case c{.parameters = every_codec(), .ranks = 2};
    Group group(2, LinkKind::inproc);
    const Workers ranks = workers_of(c, {true, true});
    ranks[1]->device->fail_after(calls);
    const auto other = submit(group, *ranks[0], 0, 0), mine = submit(group, *ranks[1], 1, 0);
    const std::string error = error_of(mine);
    CHECK(error.empty() || error == "the device of the test failed");
    if (error.empty())
      continue;
    ++failed;
    CHECK(mine->outcome().failure->number == ErrorNumber::cuda);
    const std::string heard = error_of(other); // it may have been done before
    CHECK(heard.empty() || heard == "rank 1 gave up: the device of the test failed");
  }
  CHECK(failed > 6);
}

TEST(weights_that_do_not_add_up_are_told_instead_of_values) {
  const Case c{.parameters = int8_only(), .ranks = 2};
  Group group(2, LinkKind::inproc);
  const Workers ranks = workers_of(c, {true, true});
  std::vector<Collectives::Work> works;
  for (int rank : {0, 1}) {
    Worker& mine = *ranks[static_cast<std::size_t>(rank)];
    TreeValues values = mine.values(0);
    values.weight = 0.75;
    works.push_back(group.at(rank).collectives.run_plan(call(1, nullptr, nullptr), mine.plan(),
                                                        std::move(values)));
  }
  for (const Collectives::Work& work : works) {
    CHECK(error_of(work).empty());
    CHECK(work->outcome().slices.size() == ranks[0]->plan()->slices.size());
  }
}

TEST(a_deadline_passes_while_values_are_worked_on) {
  const Case c{.parameters = int8_only(), .ranks = 2};
  Group group(2, LinkKind::inproc);
  const Workers ranks = workers_of(c, {true, true});
  ranks[1]->device->set_ready(false);
  const auto other = submit(group, *ranks[0], 0, 0), mine = submit(group, *ranks[1], 1, 0, 0.2);
  CHECK(error_of(mine).starts_with("the values of rank 1 were not ready within 0.2 s"));
  CHECK(error_of(other) == error_of(mine));
}

// What a device was given refers to memory that the engine gives back when it closes.
TEST(a_rank_that_closes_leaves_no_work_behind) {
  const Case c{.parameters = {{400000, CodecSpec::make("int8")}}, .ranks = 2};
  Group group(2, LinkKind::inproc);
  const Workers ranks = workers_of(c, {true, true});
  emulation::Device& device = *ranks[0]->device;
  device.set_paused(true);
  const auto first = submit(group, *ranks[0], 0, 0), second = submit(group, *ranks[1], 1, 0);
  while (device.host_copies() == 0)
    std::this_thread::sleep_for(1ms);
  std::thread later([&] {
    std::this_thread::sleep_for(50ms);
    device.set_paused(false);
  });
  group.at(0).engine.close();
  CHECK(device.host_copies() == 0);
  later.join();
  CHECK(first->is_over());
  error_of(second);
}
