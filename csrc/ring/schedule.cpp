#include "ring/schedule.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>
#include <numeric>

namespace thinwire {
namespace {

struct Entry {
  Algorithm algorithm;
  const char* name;
};

constexpr std::array<Entry, 5> kEntries = {{{Algorithm::direct, "direct"},
                                            {Algorithm::ring, "ring"},
                                            {Algorithm::bidirectional, "bidirectional"},
                                            {Algorithm::hierarchical, "hierarchical"},
                                            {Algorithm::doubling, "doubling"}}};

// Below these counts an exchange costs more than the bytes. Between sites every rank's whole buffer
// would cross the slow link, so there the count must be smaller.
constexpr std::size_t kSmallCount = 16384;
constexpr std::size_t kSmallCountBetweenSites = 1024;
// With more peers a rank's frames become too many and too small, and a chain is better.
constexpr int kMostPeers = 32;
// From here on, log2(ranks) exchanges beat two with everybody even if the ranks are no power of
// two.
constexpr int kManyRanks = 16;

// The ranks of each site, ascending; sites in the order of their first ranks.
std::vector<std::vector<int>> sites_of(const Topology& topology) {
  std::vector<std::vector<int>> sites;
  std::vector<int> numbers;
  for (int rank = 0; rank < topology.ranks; ++rank) {
    const int number = topology.site.empty() ? rank : topology.site[static_cast<std::size_t>(rank)];
    const auto found = std::find(numbers.begin(), numbers.end(), number);
    const auto at = static_cast<std::size_t>(found - numbers.begin());
    if (found == numbers.end()) {
      numbers.push_back(number);
      sites.emplace_back();
    }
    sites[at].push_back(rank);
  }
  return sites;
}

bool holds(const std::vector<int>& ranks, int rank) {
  return std::binary_search(ranks.begin(), ranks.end(), rank);
}

// The owner at its own site. Elsewhere the members take turns over the owners they serve, and from
// round to round, so that each represents its site equally often.
int representative(const std::vector<int>& site, const Slice& slice) {
  if (holds(site, slice.owner))
    return slice.owner;
  const auto here_before = std::lower_bound(site.begin(), site.end(), slice.owner) - site.begin();
  const auto turn = static_cast<std::size_t>(slice.owner - here_before) + slice.round;
  return site[turn % site.size()];
}

std::vector<int> all_but(const std::vector<int>& ranks, int rank) {
  std::vector<int> rest;
  std::copy_if(ranks.begin(), ranks.end(), std::back_inserter(rest),
               [rank](int other) { return other != rank; });
  return rest;
}

std::vector<int> joined(std::vector<int> first, const std::vector<int>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Role direct_role(int ranks, int owner, int rank) {
  if (rank != owner)
    return {.up = owner, .up_from = {}, .down_from = owner, .down_to = {}};
  std::vector<int> others;
  for (int other = 0; other < ranks; ++other)
    if (other != owner)
      others.push_back(other);
  return {.up_from = others, .down_to = others};
}

// Both trees are chains round the ring, `step` ranks at a time: the partial sum starts behind the
// owner and ends at it, the result ends before it.
Role ring_role(int ranks, int owner, int step, int rank) {
  const int next = (rank + ranks + step) % ranks;
  const int previous = (rank + ranks - step) % ranks;
  Role role;
  if (rank != owner) {
    role.up = next;
    role.down_from = previous;
  }
  if (previous != owner)
    role.up_from = {previous};
  if (next != owner)
    role.down_to = {next};
  return role;
}

Role hierarchical_role(const Topology& topology, const Slice& slice, int rank) {
  std::vector<int> representatives;
  std::vector<int> own_site;
  for (const std::vector<int>& site : sites_of(topology)) {
    representatives.push_back(representative(site, slice));
    if (holds(site, rank))
      own_site = site;
  }
  const int chief = representative(own_site, slice);
  if (rank != chief)
    return {.up = chief, .up_from = {}, .down_from = chief, .down_to = {}, .up_exact = true};

  const std::vector<int> members = all_but(own_site, rank);
  if (rank != slice.owner)
    return {.up = slice.owner, .up_from = members, .down_from = slice.owner, .down_to = members};

  std::sort(representatives.begin(), representatives.end());
  const std::vector<int> remote = all_but(representatives, rank);
  // The result goes over the slow links first.
  return {.up_from = joined(members, remote), .down_to = joined(remote, members)};
}

std::size_t divided_up(std::size_t a, std::size_t b) { return a / b + (a % b != 0); }

// One chunk a rank, equal multiples of `align` as far as the values last. Nothing here overflows,
// whatever the count.
std::vector<std::size_t> aligned_bounds(std::size_t count, int ranks, std::size_t align) {
  const auto parts = static_cast<std::size_t>(ranks);
  const std::size_t units = divided_up(divided_up(count, parts), align);
  const std::size_t chunk = units > count / align ? count : units * align;
  std::vector<std::size_t> bounds = {0};
  while (bounds.size() <= parts)
    bounds.push_back(bounds.back() + std::min(chunk, count - bounds.back()));
  return bounds;
}

} // namespace

Algorithm algorithm_of(const std::string& name) {
  std::string known;
  for (const Entry& entry : kEntries) {
    if (name == entry.name)
      return entry.algorithm;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw InvalidArgument("unknown algorithm '" + name + "'; there are: " + known);
}

const char* name(Algorithm algorithm) { return kEntries[static_cast<std::size_t>(algorithm)].name; }

Algorithm choose_algorithm(const Topology& topology, std::size_t count, bool compressed) {
  const std::vector<std::vector<int>> sites = sites_of(topology);
  std::size_t largest_site = 0;
  for (const std::vector<int>& site : sites)
    largest_site = std::max(largest_site, site.size());
  const bool two_levels = sites.size() > 1 && largest_site > 1;

  const bool few_exchanges =
      std::has_single_bit(static_cast<unsigned>(topology.ranks)) || topology.ranks > kManyRanks;
  const std::size_t small = two_levels ? kSmallCountBetweenSites : kSmallCount;
  if (!compressed && few_exchanges && count <= small)
    return Algorithm::doubling;
  if (topology.ranks > kMostPeers &&
      (!two_levels || std::max(sites.size(), largest_site) > kMostPeers))
    return Algorithm::ring;
  return two_levels ? Algorithm::hierarchical : Algorithm::direct;
}

std::vector<Slice> cut_slices(std::size_t count, int ranks, std::size_t align,
                              std::size_t slice_values) {
  return cut_slices(aligned_bounds(count, ranks, align), slice_values);
}

std::vector<Slice> cut_slices(const std::vector<std::size_t>& bounds, std::size_t slice_values) {
  std::vector<std::size_t> sizes(bounds.size());
  std::adjacent_difference(bounds.begin(), bounds.end(), sizes.begin());
  const std::size_t rounds =
      divided_up(*std::max_element(sizes.begin(), sizes.end()), slice_values);
  std::vector<Slice> slices;
  for (std::size_t round = 0; round < rounds; ++round) {
    const std::size_t skipped = round * slice_values; // of every chunk
    for (std::size_t i = 1; i < sizes.size(); ++i)
      if (sizes[i] > skipped)
        slices.push_back({.first = bounds[i - 1] + skipped,
                          .count = std::min(slice_values, sizes[i] - skipped),
                          .owner = static_cast<int>(i) - 1,
                          .round = static_cast<std::uint32_t>(round)});
  }
  if (slices.empty())
    slices.push_back({.first = 0, .count = 0, .owner = 0, .round = 0});
  return slices;
}

std::vector<std::size_t> even_bounds(std::size_t count, int ranks) {
  const auto parts = static_cast<std::size_t>(ranks);
  std::vector<std::size_t> bounds(parts + 1);
  for (std::size_t i = 0; i <= parts; ++i)
    bounds[i] = i * (count / parts) + std::min(i, count % parts);
  return bounds;
}

Role role_of(Algorithm algorithm, const Topology& topology, const Slice& slice, std::size_t index,
             int rank) {
  switch (algorithm) {
  case Algorithm::direct:
    return direct_role(topology.ranks, slice.owner, rank);
  case Algorithm::ring:
    return ring_role(topology.ranks, slice.owner, 1, rank);
  case Algorithm::bidirectional:
    return ring_role(topology.ranks, slice.owner, index % 2 == 0 ? 1 : -1, rank);
  case Algorithm::hierarchical:
    return hierarchical_role(topology, slice, rank);
  case Algorithm::doubling:
    break;
  }
  throw InvalidArgument("doubling exchanges whole buffers; it has no trees");
}

std::vector<DoublingStep> doubling_steps(int ranks, int rank) {
  using Kind = DoublingStep::Kind;
  const int power = static_cast<int>(std::bit_floor(static_cast<unsigned>(ranks)));
  if (rank >= power)
    return {{Kind::give, rank - power}, {Kind::take_result, rank - power}};
  const bool serves = rank + power < ranks;
  std::vector<DoublingStep> steps;
  if (serves)
    steps.push_back({Kind::take, rank + power});
  for (int distance = 1; distance < power; distance *= 2)
    steps.push_back({Kind::exchange, rank ^ distance});
  if (serves)
    steps.push_back({Kind::give_result, rank + power});
  return steps;
}

} // namespace thinwire
