// Sums of values on a device, emulated: the bits of the host, whatever the schedule, the codecs and
// the cut; failures and deadlines end them everywhere. Frames travel over the host.
#include "device_ranks.hpp"

#include <thread>

namespace {

using namespace device_ranks;

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
    for (int ranks : {1, 2, 3}) {
      check::context = std::string(name(algorithm)) + " ranks=" + std::to_string(ranks);
      check_case({.parameters = raw_only(), .ranks = ranks, .algorithm = algorithm});
    }
  check_case({.parameters = raw_only(),
              .ranks = 4,
              .algorithm = Algorithm::hierarchical,
              .sites = {0, 0, 1, 1}});
}

TEST(more_slices_than_the_window_holds) {
  check_case({.parameters = {{200000, CodecSpec::make("int4")}}, .ranks = 2, .slice_values = 64});
}

TEST(many_slices_take_few_launches) {
  const Case c{.parameters = int8_only(), .ranks = 1, .slice_values = 100};
  check_case(c);
  const Result found = run(c, {true}, 1);
  const auto slices = static_cast<int>(found.ranks[0]->plan()->slices.size());
  CHECK(slices > 80);
  const emulation::Device::Launches& launches = found.ranks[0]->device->launches();
  for (int each : {launches.fold.load(), launches.encode.load(), launches.decode.load()})
    CHECK(each == 2); // of at most 64 slices
}

TEST(raw_values_of_one_other_rank_are_added_where_the_sum_is_encoded) {
  for (int ranks : {2, 3}) {
    const Case c{.parameters = raw_only(), .ranks = ranks};
    const Result found = run(c, std::vector<bool>(static_cast<std::size_t>(ranks), true), 1);
    CHECK((found.ranks[0]->device->launches().fold == 0) == (ranks == 2));
  }
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
  for (int calls : {0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 21, 34, 55, 89}) {
    check::context = std::to_string(calls) + " calls";
    const Case c{.parameters = every_codec(), .ranks = 2};
    Group group(2, LinkKind::inproc);
    const Workers ranks = workers_of(c, {true, true});
    ranks[1]->device->fail_after(calls);
    const auto other = submit(group, *ranks[0], 0, 0), mine = submit(group, *ranks[1], 1, 0);
    const std::string error = error_of(mine), heard = error_of(other);
    CHECK(error.empty() || error == "the device of the test failed");
    if (error.empty())
      continue;
    ++failed;
    CHECK(mine->outcome().failure->number == ErrorNumber::cuda); // the other may have been done
    CHECK(heard.empty() || heard == "rank 1 gave up: the device of the test failed");
  }
  CHECK(failed > 6);
}

TEST(weights_that_do_not_add_up_are_told_instead_of_values) {
  for (const auto& parameters : {int8_only(), raw_only()}) {
    const Case c{.parameters = parameters, .ranks = 2};
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
