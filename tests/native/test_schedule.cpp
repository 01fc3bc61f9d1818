// Schedules: trees that agree between ranks, slices that cover the buffer, exchanges that meet.
#include "check.hpp"
#include "core/error.hpp"
#include "ring/schedule.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <utility>

namespace {

using namespace thinwire;

constexpr int kMostRanks = 9;
constexpr std::array kTrees = {Algorithm::direct, Algorithm::ring, Algorithm::bidirectional,
                               Algorithm::hierarchical};

// No sites, one site, one rank a site, halves, interleaved, uneven, and numbers with gaps.
std::vector<Topology> topologies(int ranks) {
  std::vector<Topology> all = {{ranks, {}}};
  const auto add = [&](auto&& site_of) {
    Topology topology{ranks, {}};
    for (int rank = 0; rank < ranks; ++rank)
      topology.site.push_back(site_of(rank));
    all.push_back(topology);
  };
  add([](int) { return 7; });
  add([](int rank) { return rank; });
  add([&](int rank) { return rank < ranks / 2 ? 0 : 1; });
  add([](int rank) { return rank % 2; });
  add([](int rank) { return rank % 3 * 5; });
  add([](int rank) { return rank == 0 ? 3 : -1; });
  add([](int rank) { return rank < 5 ? 0 : rank; });
  return all;
}

std::vector<Role> roles_of(Algorithm algorithm, const Topology& topology, const Slice& slice,
                           std::size_t index) {
  std::vector<Role> roles;
  for (int rank = 0; rank < topology.ranks; ++rank)
    roles.push_back(role_of(algorithm, topology, slice, index, rank));
  return roles;
}

// Calls visit(algorithm, topology, slice, index, roles) for everything there is.
template <class Visit> void for_every_slice(Visit&& visit) {
  for (int ranks = 1; ranks <= kMostRanks; ++ranks)
    for (const Topology& topology : topologies(ranks))
      for (Algorithm algorithm : kTrees) {
        const std::vector<Slice> slices = cut_slices(std::size_t(ranks) * 3, ranks, 1, 1);
        for (std::size_t i = 0; i < slices.size(); ++i) {
          check::context = std::string(name(algorithm)) + ", ranks " + std::to_string(ranks) +
                           ", owner " + std::to_string(slices[i].owner);
          visit(algorithm, topology, slices[i], i, roles_of(algorithm, topology, slices[i], i));
        }
      }
}

// Whether following `next` from any rank ends at the owner, and only there.
template <class Next> bool leads_to(int owner, int ranks, Next&& next) {
  for (int start = 0; start < ranks; ++start) {
    int rank = start;
    for (int hop = 0; hop < ranks && next(rank) >= 0; ++hop)
      rank = next(rank);
    if (rank != owner || next(rank) != -1)
      return false;
  }
  return true;
}

using Edges = std::multiset<std::pair<int, int>>; // (child, parent)

const Role& at(const std::vector<Role>& roles, int rank) {
  return roles[static_cast<std::size_t>(rank)];
}

TEST(both_trees_are_rooted_at_the_owner_and_cover_all_ranks) {
  for_every_slice([](Algorithm, const Topology& topology, const Slice& slice, std::size_t,
                     const std::vector<Role>& roles) {
    CHECK(leads_to(slice.owner, topology.ranks, [&](int rank) { return at(roles, rank).up; }));
    CHECK(
        leads_to(slice.owner, topology.ranks, [&](int rank) { return at(roles, rank).down_from; }));
  });
}

TEST(what_one_rank_sends_another_expects) {
  for_every_slice([](Algorithm, const Topology& topology, const Slice&, std::size_t,
                     const std::vector<Role>& roles) {
    Edges up_sent, up_expected, down_sent, down_expected;
    for (int rank = 0; rank < topology.ranks; ++rank) {
      const Role& role = at(roles, rank);
      if (role.up >= 0)
        up_sent.emplace(rank, role.up);
      for (int child : role.up_from)
        up_expected.emplace(child, rank);
      if (role.down_from >= 0)
        down_expected.emplace(rank, role.down_from);
      for (int child : role.down_to)
        down_sent.emplace(child, rank);
    }
    CHECK(up_sent == up_expected);
    CHECK(down_sent == down_expected);
    CHECK(up_sent.size() == std::size_t(topology.ranks) - 1);
  });
}

TEST(a_rank_alone_is_a_root_without_peers) {
  for (const Topology& topology : topologies(1))
    for (Algorithm algorithm : kTrees) {
      const Role role = role_of(algorithm, topology, {0, 5, 0, 0}, 0, 0);
      CHECK(role.up == -1 && role.down_from == -1 && !role.up_exact);
      CHECK(role.up_from.empty() && role.down_to.empty());
    }
}

TEST(direct_adds_the_others_in_ascending_order) {
  const Role owner = role_of(Algorithm::direct, {4, {}}, {0, 1, 2, 0}, 2, 2);
  CHECK((owner.up_from == std::vector<int>{0, 1, 3}));
  CHECK((owner.down_to == std::vector<int>{0, 1, 3}));
}

TEST(a_ring_goes_once_round) {
  const Slice slice{0, 1, 2, 0};
  const auto ups = [&](Algorithm algorithm, std::size_t index) {
    std::vector<int> found;
    for (int rank = 0; rank < 4; ++rank)
      found.push_back(role_of(algorithm, {4, {}}, slice, index, rank).up);
    return found;
  };
  const std::vector<int> forward = {1, 2, -1, 0}, mirrored = {3, 0, -1, 2};
  CHECK(ups(Algorithm::ring, 0) == forward && ups(Algorithm::ring, 1) == forward);
  CHECK(ups(Algorithm::bidirectional, 0) == forward);
  CHECK(ups(Algorithm::bidirectional, 1) == mirrored);
}

TEST(both_directions_of_the_ring_carry_equally_much) {
  for (int ranks = 3; ranks <= kMostRanks; ++ranks)
    for (int rounds = 2; rounds <= 6; rounds += 2) {
      check::context = std::to_string(ranks) + " ranks, " + std::to_string(rounds) + " rounds";
      const auto slices = cut_slices(std::size_t(ranks) * std::size_t(rounds), ranks, 1, 1);
      std::map<std::pair<int, int>, int> load;
      for (std::size_t i = 0; i < slices.size(); ++i)
        for (int rank = 0; rank < ranks; ++rank) {
          const Role role = role_of(Algorithm::bidirectional, {ranks, {}}, slices[i], i, rank);
          if (role.up >= 0)
            ++load[{rank, role.up}];
          for (int child : role.down_to)
            ++load[{rank, child}];
        }
      CHECK(load.size() == 2 * std::size_t(ranks));
      for (const auto& [link, frames] : load)
        CHECK(frames == rounds * (ranks - 1));
    }
}

TEST(inside_a_site_sums_are_exact_and_between_sites_they_are_not) {
  for_every_slice([](Algorithm algorithm, const Topology& topology, const Slice&, std::size_t,
                     const std::vector<Role>& roles) {
    const auto site = [&](int rank) {
      return topology.site.empty() ? rank : topology.site[std::size_t(rank)];
    };
    for (int rank = 0; rank < topology.ranks; ++rank) {
      const Role& role = at(roles, rank);
      const bool inside = role.up >= 0 && site(rank) == site(role.up);
      CHECK(role.up_exact == (algorithm == Algorithm::hierarchical && inside));
    }
  });
}

TEST(one_frame_a_site_crosses_to_another_each_way) {
  for_every_slice([](Algorithm algorithm, const Topology& topology, const Slice& slice, std::size_t,
                     const std::vector<Role>& roles) {
    if (algorithm != Algorithm::hierarchical || topology.site.empty())
      return;
    const auto& site = topology.site;
    const int home = site[std::size_t(slice.owner)];
    std::map<int, int> up, down;
    for (int rank = 0; rank < topology.ranks; ++rank) {
      const int here = site[std::size_t(rank)];
      if (here == home)
        continue;
      up[here] += site[std::size_t(at(roles, rank).up)] != here;
      down[here] += site[std::size_t(at(roles, rank).down_from)] != here;
    }
    for (const auto& crossings : {up, down})
      for (const auto& [number, frames] : crossings)
        CHECK(frames == 1);
  });
}

TEST(hierarchical_adds_its_members_first_and_sends_to_other_sites_first) {
  const Topology topology{7, {0, 1, 0, 1, 2, 0, 1}};
  const Role owner = role_of(Algorithm::hierarchical, topology, {0, 1, 2, 0}, 2, 2);
  CHECK((owner.up_from == std::vector<int>{0, 5, 3, 4}));
  CHECK((owner.down_to == std::vector<int>{3, 4, 0, 5}));
  const Role other = role_of(Algorithm::hierarchical, topology, {0, 1, 2, 0}, 2, 3);
  CHECK(other.up == 2 && !other.up_exact);
  CHECK((other.up_from == std::vector<int>{1, 6}) && other.down_to == other.up_from);
  const Role member = role_of(Algorithm::hierarchical, topology, {0, 1, 2, 0}, 2, 6);
  CHECK(member.up == 3 && member.up_exact && member.down_from == 3);
}

TEST(the_members_of_a_site_represent_it_in_turn) {
  const Topology topology{9, {0, 1, 0, 1, 0, 1, 0, 1, 2}};
  std::map<int, int> times;
  for (std::uint32_t round = 0; round < 4; ++round)
    for (int owner : {0, 2, 4, 6, 8})
      for (int rank : {1, 3, 5, 7})
        times[rank] +=
            role_of(Algorithm::hierarchical, topology, {0, 1, owner, round}, 0, rank).up == owner;
  for (int rank : {1, 3, 5, 7})
    CHECK(times[rank] == 5);
}

TEST(hierarchical_with_one_rank_a_site_is_direct) {
  for (int rank = 0; rank < 5; ++rank) {
    const Role direct = role_of(Algorithm::direct, {5, {}}, {0, 1, 3, 2}, 13, rank);
    const Role same = role_of(Algorithm::hierarchical, {5, {}}, {0, 1, 3, 2}, 13, rank);
    CHECK(direct.up == same.up && direct.up_from == same.up_from && !same.up_exact);
    CHECK(direct.down_from == same.down_from && direct.down_to == same.down_to);
  }
}

TEST(slices_cover_the_buffer_once) {
  for (int ranks = 1; ranks <= kMostRanks; ++ranks)
    for (std::size_t align : {1, 4, 64})
      for (std::size_t most : {1, 64, 100, 1000})
        for (std::size_t count : {0, 1, 3, 63, 64, 65, 128, 129, 577, 2000}) {
          check::context = std::to_string(count) + " over " + std::to_string(ranks) + ", align " +
                           std::to_string(align) + ", slices of " + std::to_string(most);
          std::vector<int> covered(count);
          for (const Slice& slice : cut_slices(count, ranks, align, most)) {
            CHECK(slice.count <= most && (slice.count > 0 || count == 0));
            CHECK(slice.owner >= 0 && slice.owner < ranks);
            for (std::size_t i = 0; i < slice.count; ++i)
              ++covered[slice.first + i];
          }
          CHECK(std::all_of(covered.begin(), covered.end(), [](int times) { return times == 1; }));
        }
}

TEST(slices_come_in_order_of_round_then_owner_and_chunks_are_aligned) {
  const std::vector<Slice> slices = cut_slices(1000, 3, 64, 128);
  const std::vector<Slice> expected = {{0, 128, 0, 0},   {384, 128, 1, 0}, {768, 128, 2, 0},
                                       {128, 128, 0, 1}, {512, 128, 1, 1}, {896, 104, 2, 1},
                                       {256, 128, 0, 2}, {640, 128, 1, 2}};
  CHECK(slices == expected);
}

TEST(chunks_that_are_given_are_cut_alike) {
  const std::vector<Slice> slices = cut_slices({0, 3, 3, 8}, 2);
  const std::vector<Slice> expected = {
      {0, 2, 0, 0}, {3, 2, 2, 0}, {2, 1, 0, 1}, {5, 2, 2, 1}, {7, 1, 2, 2}};
  CHECK(slices == expected);
  CHECK(cut_slices({0, 0}, 5).size() == 1);
}

TEST(few_values_have_few_owners_and_none_one_empty_slice) {
  CHECK(cut_slices(1500, 8, kSliceAlign, kSliceValuesRaw).size() == 2);
  const std::vector<Slice> none = cut_slices(0, 8, kSliceAlign, kSliceValuesRaw);
  CHECK(none.size() == 1 && none[0].count == 0 && none[0].owner == 0);
}

TEST(nothing_overflows) {
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  for (int ranks = 1; ranks <= kMostRanks; ++ranks) {
    std::size_t sum = 0;
    for (const Slice& slice : cut_slices(kMost, ranks, kSliceAlign, kMost))
      sum += slice.count;
    CHECK(sum == kMost);
    CHECK(even_bounds(kMost, ranks).back() == kMost);
    CHECK(cut_slices(5, ranks, kMost, kMost).size() == 1);
  }
}

TEST(even_bounds_are_even) {
  CHECK((even_bounds(10, 4) == std::vector<std::size_t>{0, 3, 6, 8, 10}));
  CHECK((even_bounds(2, 3) == std::vector<std::size_t>{0, 1, 2, 2}));
  CHECK((even_bounds(0, 2) == std::vector<std::size_t>{0, 0, 0}));
}

using Kind = DoublingStep::Kind;

Kind answer_to(Kind kind) {
  static const std::map<Kind, Kind> answers = {{Kind::give, Kind::take},
                                               {Kind::take, Kind::give},
                                               {Kind::exchange, Kind::exchange},
                                               {Kind::give_result, Kind::take_result},
                                               {Kind::take_result, Kind::give_result}};
  return answers.at(kind);
}

// Runs every rank's steps, each only when its peer is at the matching one; returns whether all
// ranks came to the end. `values` are the contributions each rank holds.
bool exchange_all(std::vector<std::multiset<int>>& values) {
  const int ranks = static_cast<int>(values.size());
  std::vector<std::vector<DoublingStep>> steps;
  for (int rank = 0; rank < ranks; ++rank)
    steps.push_back(doubling_steps(ranks, rank));
  std::vector<std::size_t> done(values.size());
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t rank = 0; rank < values.size(); ++rank) {
      if (done[rank] == steps[rank].size())
        continue;
      const DoublingStep step = steps[rank][done[rank]];
      const auto peer = static_cast<std::size_t>(step.peer);
      if (done[peer] == steps[peer].size())
        return false;
      const DoublingStep answer = steps[peer][done[peer]];
      if (answer.peer != static_cast<int>(rank) || answer.kind != answer_to(step.kind))
        continue;
      if (step.kind == Kind::give_result || step.kind == Kind::take_result) {
        const bool gives = step.kind == Kind::give_result;
        values[gives ? peer : rank] = values[gives ? rank : peer];
      } else {
        std::multiset<int> both = values[rank];
        both.insert(values[peer].begin(), values[peer].end());
        if (step.kind != Kind::give)
          values[rank] = both;
        if (step.kind != Kind::take)
          values[peer] = both;
      }
      ++done[rank];
      ++done[peer];
      moved = true;
    }
  }
  for (std::size_t rank = 0; rank < values.size(); ++rank)
    if (done[rank] != steps[rank].size())
      return false;
  return true;
}

TEST(doubling_meets_in_time_and_gives_everything_to_everybody_once) {
  for (int ranks = 1; ranks <= 33; ++ranks) {
    check::context = std::to_string(ranks) + " ranks";
    std::vector<std::multiset<int>> values;
    std::multiset<int> all;
    for (int rank = 0; rank < ranks; ++rank) {
      values.push_back({rank});
      all.insert(rank);
    }
    CHECK(exchange_all(values));
    for (const auto& held : values)
      CHECK(held == all);
  }
}

TEST(doubling_has_no_trees) {
  CHECK_THROWS(InvalidArgument, "no trees",
               role_of(Algorithm::doubling, {2, {}}, {0, 1, 0, 0}, 0, 0));
}

TEST(names_are_read_as_written) {
  for (Algorithm algorithm : {Algorithm::direct, Algorithm::ring, Algorithm::bidirectional,
                              Algorithm::hierarchical, Algorithm::doubling})
    CHECK(algorithm_of(name(algorithm)) == algorithm);
  CHECK_THROWS(InvalidArgument,
               "unknown algorithm 'auto'; there are: direct, ring, bidirectional, hierarchical, "
               "doubling",
               algorithm_of("auto"));
}

Topology sites(std::initializer_list<int> sizes) {
  Topology topology{0, {}};
  for (int size : sizes) {
    topology.site.insert(topology.site.end(), std::size_t(size), topology.ranks);
    topology.ranks += size;
  }
  return topology;
}

TEST(auto_takes_what_fits_the_size_and_the_sites) {
  constexpr std::size_t kMany = 1 << 20;
  CHECK(choose_algorithm({4, {}}, 16384, false) == Algorithm::doubling);
  CHECK(choose_algorithm({4, {}}, 16384, true) == Algorithm::direct);
  CHECK(choose_algorithm({4, {}}, 16385, false) == Algorithm::direct);
  CHECK(choose_algorithm({3, {}}, 1, false) == Algorithm::direct);
  CHECK(choose_algorithm({17, {}}, 1, false) == Algorithm::doubling);
  CHECK(choose_algorithm({32, {}}, kMany, true) == Algorithm::direct);
  CHECK(choose_algorithm({33, {}}, kMany, true) == Algorithm::ring);
  CHECK(choose_algorithm(sites({4}), kMany, true) == Algorithm::direct);
  CHECK(choose_algorithm(sites({1, 1, 1}), kMany, true) == Algorithm::direct);
  CHECK(choose_algorithm(sites({2, 1}), kMany, true) == Algorithm::hierarchical);
  CHECK(choose_algorithm(sites({2, 2}), 1024, false) == Algorithm::doubling);
  CHECK(choose_algorithm(sites({2, 2}), 1025, false) == Algorithm::hierarchical);
  CHECK(choose_algorithm(sites({32, 32}), kMany, true) == Algorithm::hierarchical);
  CHECK(choose_algorithm(sites({33, 32}), kMany, true) == Algorithm::ring);
}

} // namespace
