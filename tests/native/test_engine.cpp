// Whole groups in one process: every rank an engine with its thread, joined by memory or by TCP.
#include "engine_ranks.hpp"

#include "core/error.hpp"

#include <random>
#include <thread>

using namespace thinwire;
using namespace std::chrono_literals;
using namespace engines;

namespace {

std::vector<float> random_values(std::size_t count, std::mt19937& random) {
  std::vector<float> values(count);
  for (float& value : values)
    value = static_cast<float>(static_cast<int>(random() % 2001) - 1000); // sums are exact
  return values;
}

// One all-reduce on all ranks: equal results everywhere, and the right ones where nothing is lost.
void check_all_reduce(Group& group, std::uint64_t number, std::size_t count,
                      const Reduction& reduction, std::mt19937& random) {
  const bool is_exact = reduction.codec.wire_id == Raw::kWireId;
  std::vector<std::vector<float>> in, out;
  std::vector<float> sum(count, 0.0f);
  for (int rank = 0; rank < group.size(); ++rank) {
    in.push_back(random_values(count, random));
    out.emplace_back(count);
    for (std::size_t i = 0; i < count; ++i)
      sum[i] += in.back()[i];
  }
  std::vector<Collectives::Work> works;
  for (int rank = 0; rank < group.size(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    works.push_back(group.at(rank).collectives.all_reduce(call(number, in[r].data(), out[r].data()),
                                                          count, reduction));
  }
  for (const Collectives::Work& work : works)
    CHECK(error_of(work).empty());
  for (const std::vector<float>& result : out)
    CHECK(result == (is_exact ? sum : out[0]));
}

void check_many(Group& group, int operations) {
  std::mt19937 random(1);
  const std::vector<Algorithm> algorithms = {Algorithm::direct, Algorithm::ring,
                                             Algorithm::bidirectional};
  for (int number = 0; number < operations; ++number) {
    Reduction reduction;
    reduction.codec = CodecSpec::make(number % 2 ? "int8" : "raw");
    reduction.algorithm = algorithms[random() % algorithms.size()];
    check::context = "operation " + std::to_string(number);
    check_all_reduce(group, static_cast<std::uint64_t>(number), random() % 200000, reduction,
                     random);
  }
}

} // namespace

TEST(all_reduces_between_threads) {
  Group group(3, LinkKind::inproc);
  check_many(group, 12);
}

TEST(all_reduces_over_tcp) {
  Group group(3, LinkKind::tcp);
  check_many(group, 12);
}

TEST(all_reduces_over_striped_and_authenticated_tcp) {
  NetworkOptions network;
  network.sockets = 3;
  network.secret = "a secret of the test";
  Group group(2, LinkKind::tcp, 30, network);
  check_many(group, 8);
}

TEST(all_reduces_over_a_bad_line) {
  NetworkOptions network;
  network.shape =
      LinkShape{.rate = 5e7, .delay = 0.002, .loss = 0.02, .rto = 0.01, .seed = 1, .cut_after = {}};
  Group group(2, LinkKind::tcp, 30, network);
  check_many(group, 6);
}

TEST(doubling_for_any_number_of_ranks) {
  std::mt19937 random(2);
  for (int size : {1, 2, 3, 5}) {
    Group group(size, LinkKind::inproc);
    Reduction reduction;
    reduction.algorithm = Algorithm::doubling;
    check_all_reduce(group, 0, 1000, reduction, random);
    check_all_reduce(group, 1, 0, reduction, random);
  }
}

TEST(many_in_flight_in_different_orders) {
  Group group(2, LinkKind::inproc);
  constexpr std::size_t kCount = 50000, kOperations = 8;
  std::vector<std::vector<float>> values(2 * kOperations, std::vector<float>(kCount, 1.0f));
  std::vector<Collectives::Work> works;
  for (int rank : {0, 1})
    for (std::size_t i = 0; i < kOperations; ++i) {
      const std::size_t number = rank == 0 ? i : kOperations - 1 - i;
      float* buffer = values[static_cast<std::size_t>(rank) * kOperations + number].data();
      works.push_back(
          group.at(rank).collectives.all_reduce(call(number, buffer, buffer), kCount, {}));
    }
  for (const Collectives::Work& work : works)
    CHECK(error_of(work).empty());
  for (const std::vector<float>& buffer : values)
    CHECK(buffer == std::vector<float>(kCount, 2.0f));
}

TEST(a_source_waits_for_a_rank_that_comes_late) {
  Group group(2, LinkKind::inproc);
  std::vector<float> from(8u << 20, 3.0f), to(from.size());
  const std::size_t bytes = from.size() * sizeof(float);
  const auto sent =
      group.at(0).collectives.broadcast(call(1, from.data(), from.data()), bytes, 0, {});
  std::this_thread::sleep_for(100ms);
  CHECK(group.at(1).engine.stats().buffer_bytes < 24u << 20); // not the whole of it
  const auto got = group.at(1).collectives.broadcast(call(1, to.data(), to.data()), bytes, 0, {});
  CHECK(error_of(sent).empty());
  CHECK(error_of(got).empty());
  CHECK(from == to);
}

TEST(ranks_that_disagree_hear_both_views_and_go_on) {
  Group group(2, LinkKind::inproc);
  std::vector<float> a(100000, 1.0f), b(100000, 1.0f);
  const auto first = group.at(0).collectives.all_reduce(call(1, a.data(), a.data()), 100000, {});
  const auto second = group.at(1).collectives.all_reduce(call(1, b.data(), b.data()), 90000, {});
  CHECK(error_of(first).find("100000 float32 values") != std::string::npos);
  CHECK(error_of(first).find("90000 float32 values") != std::string::npos);
  CHECK(error_of(first) == error_of(second));
  std::mt19937 random(3);
  check_all_reduce(group, 2, 5000, {}, random);
}

TEST(abort_ends_the_wait_everywhere) {
  Group group(3, LinkKind::tcp, 2);
  std::vector<float> values(1000);
  const auto waiting =
      group.at(1).collectives.all_reduce(call(1, values.data(), values.data()), 1000, {});
  group.at(0).engine.abort("enough");
  CHECK(error_of(waiting) == "rank 0 gave up: enough");
  CHECK(waiting->outcome().failure->culprit == 0);
  CHECK_THROWS(PeerLost, "gave up", group.at(1).collectives.barrier(call(2, nullptr, nullptr)));
}

TEST(a_deadline_names_who_is_late) {
  Group group(3, LinkKind::inproc);
  std::vector<float> values(1000);
  std::vector<float> others(1000);
  Reduction reduction;
  reduction.algorithm = Algorithm::direct;
  const auto first = group.at(0).collectives.all_reduce(call(1, values.data(), values.data(), 0.3),
                                                        1000, reduction);
  const auto second = group.at(1).collectives.all_reduce(call(1, others.data(), others.data(), 0.3),
                                                         1000, reduction);
  for (const Collectives::Work& waiting : {first, second})
    CHECK(error_of(waiting).starts_with("rank 2 did not answer within 0.3 s"));
}

TEST(a_deadline_names_who_is_late_to_ranks_without_a_link_to_it) {
  constexpr int kRanks = 6, kLate = 3;
  Group group(kRanks, LinkKind::inproc, 30, {}, Links::ring);
  std::vector<float> values(1000 * kRanks);
  Reduction reduction;
  reduction.algorithm = Algorithm::ring;
  std::vector<Collectives::Work> waiting;
  for (int rank = kRanks - 1; rank >= 0; --rank) {
    float* mine = values.data() + 1000 * rank;
    if (rank != kLate)
      waiting.push_back(group.at(rank).collectives.all_reduce(
          call(1, mine, mine, rank == 0 ? 0.3 : kDeadline), 1000, reduction));
  }
  for (const Collectives::Work& work : waiting)
    CHECK(error_of(work).starts_with("rank 3 did not answer within 0.3 s"));
}

TEST(a_deadline_does_not_name_who_has_done_its_part) {
  Group group(3, LinkKind::inproc);
  std::vector<std::byte> from(1000), to(1000);
  const auto done =
      group.at(1).collectives.broadcast(call(1, to.data(), to.data()), to.size(), 0, {});
  const auto waiting =
      group.at(0).collectives.broadcast(call(1, from.data(), from.data(), 0.3), from.size(), 0, {});
  CHECK(error_of(done).empty());
  CHECK(error_of(waiting).starts_with("rank 2 did not answer within 0.3 s"));
}

// Ranks 0 and 2 are no neighbours: rank 2 connects when it needs rank 0, which does not yet.
TEST(a_late_rank_is_not_lost_to_who_was_no_neighbour) {
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::shm, LinkKind::inproc}) {
    constexpr double kTimeout = 2;
    Group group(4, kind, kTimeout, {}, Links::ring);
    std::vector<std::vector<float>> values(4, std::vector<float>(1000, 1.0f));
    Reduction reduction;
    reduction.algorithm = Algorithm::direct;
    std::vector<Collectives::Work> works;
    for (int rank = 3; rank >= 0; --rank) {
      if (rank == 0)
        std::this_thread::sleep_for(to_duration(1.5 * kTimeout));
      float* mine = values[static_cast<std::size_t>(rank)].data();
      works.push_back(group.at(rank).collectives.all_reduce(call(1, mine, mine), 1000, reduction));
    }
    for (const Collectives::Work& work : works)
      CHECK(error_of(work).empty());
    for (const std::vector<float>& sum : values)
      CHECK(sum == std::vector<float>(1000, 4.0f));
  }
}

TEST(a_cut_cable_is_noticed) {
  NetworkOptions network;
  network.shape = LinkShape{.cut_after = 40};
  Group group(2, LinkKind::tcp, 1, network);
  std::vector<float> a(4u << 20), b(4u << 20);
  const auto first = group.at(0).collectives.all_reduce(call(1, a.data(), a.data()), a.size(), {});
  const auto second = group.at(1).collectives.all_reduce(call(1, b.data(), b.data()), b.size(), {});
  CHECK(error_of(first).find("rank 1 is lost") != std::string::npos);
  CHECK(error_of(second).find("rank 0 is lost") != std::string::npos);
}

TEST(a_rank_that_closes_is_missed_only_by_those_who_need_it) {
  Group group(2, LinkKind::tcp);
  std::mt19937 random(4);
  check_all_reduce(group, 1, 1000, {}, random);
  std::vector<float> values(1000);
  const auto waiting =
      group.at(0).collectives.all_reduce(call(2, values.data(), values.data()), 1000, {});
  group.at(1).engine.close();
  CHECK(error_of(waiting).find("rank 1") != std::string::npos);
}

namespace {

// Values stay in a link while it is looked at.
NetworkOptions slow_link() {
  NetworkOptions network;
  network.shape = LinkShape{.rate = 5e4, .cut_after = {}};
  return network;
}

// Rank 0 broadcasts, rank 1 reduces instead. Rank 0 knows that this is refused, and its values are
// still on their way.
struct Disagreement {
  explicit Disagreement(double deadline = kDeadline)
      : group(2, LinkKind::tcp, 20, slow_link()), values(8 * kMaxPayload), other(1000),
        sent(group.at(0).collectives.broadcast(call(1, values.data(), values.data(), deadline),
                                               values.size(), 0, {})),
        got(group.at(1).collectives.all_reduce(call(1, other.data(), other.data()), other.size(),
                                               {})) {
    while (group.at(1).engine.stats().links.at(0).link.received_bytes < 10'000) // a frame of values
      std::this_thread::sleep_for(10ms);
    std::this_thread::sleep_for(200ms); // what rank 1 began comes to rank 0
    CHECK(!sent->is_over());
  }
  Group group;
  std::vector<std::byte> values;
  std::vector<float> other;
  Collectives::Work sent, got;
};

} // namespace

TEST(a_refused_operation_ends_when_its_peer_has_left) {
  Disagreement ranks;
  ranks.group.at(1).engine.close();
  CHECK(error_of(ranks.sent).find("ranks disagree") != std::string::npos);
}

TEST(a_refused_operation_has_a_deadline) {
  Disagreement ranks(5);
  CHECK(error_of(ranks.sent).find("ranks disagree") != std::string::npos);
  CHECK(ranks.group.at(0).engine.failure()->reason.find("did not leave within 5 s (deadline)") !=
        std::string::npos);
}

// AddressSanitizer sees it where a link still reads them.
TEST(values_of_a_refused_operation_are_free_when_it_ends) {
  Disagreement ranks;
  std::thread closing([&] { ranks.group.at(0).engine.close(); });
  CHECK(!error_of(ranks.sent).empty());
  std::vector<std::byte>().swap(ranks.values);
  closing.join();
}

TEST(a_broadcast_to_who_leaves_without_it_does_not_wait_for_its_deadline) {
  for (const std::size_t bytes : {std::size_t{1000}, std::size_t{64} << 20}) {
    Group group(2, LinkKind::tcp);
    std::vector<std::byte> values(bytes);
    const auto sent =
        group.at(0).collectives.broadcast(call(1, values.data(), values.data()), bytes, 0, {});
    std::this_thread::sleep_for(200ms);
    group.at(1).engine.close();
    CHECK(error_of(sent).find("rank 1 is lost: it closed its communicator in the middle") == 0);
  }
}
