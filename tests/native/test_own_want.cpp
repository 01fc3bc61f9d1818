// A rank that is out of descriptors while it connects says so itself, and takes no peer for lost.
#include "check.hpp"
#include "core/error.hpp"
#include "few_descriptors.hpp"
#include "mesh_ranks.hpp"

#include <set>

namespace {

using namespace mesh;

constexpr rlim_t kNone = 3; // fewer than are open

NetworkOptions hasty() {
  NetworkOptions options = loopback();
  options.timeout = 1;
  return options;
}

// What `rank` says while it cannot open anything; empty where it needed nothing, or said nothing.
std::string turn_without(Rank& rank) {
  const FewDescriptors none(kNone);
  try {
    rank.turn();
  } catch (const OutOfResources& error) {
    return error.what();
  }
  return "";
}

// The same while it connects through shared memory, after so many turns with descriptors.
std::string connect_without(int rank, int turns) {
  Group group(2, loopback(), LinkKind::shm);
  for (const int each : {0, 1})
    group[each].mesh->open(1 - each);
  for (int i = 0; i < turns; ++i)
    group.turn();
  std::string said;
  const Clock::time_point limit = Clock::now() + 300ms;
  while (said.empty() && Clock::now() < limit && !group[rank].mesh->is_connected(1 - rank)) {
    group[1 - rank].turn();
    said = turn_without(group[rank]);
  }
  CHECK(group[0].inbox.losses.empty() && group[1].inbox.losses.empty());
  return said;
}

std::set<std::string> whatever_it_says(int rank) {
  std::set<std::string> said;
  for (int turns = 0; turns < 8; ++turns)
    said.insert(connect_without(rank, turns));
  return said;
}

constexpr auto kWhy = "Too many open files; raise the limit on open files (ulimit -n)";

TEST(who_cannot_make_shared_memory_says_so) {
  CHECK(whatever_it_says(1).contains(std::string("making shared memory failed: ") + kWhy));
}

TEST(who_cannot_take_shared_memory_over_says_so) {
  CHECK(whatever_it_says(0).contains(std::string("taking over shared memory failed: ") + kWhy));
}

TEST(who_cannot_open_a_socket_tries_until_the_timeout) {
  Group group(2, hasty());
  group[1].mesh->open(0);
  const auto begin = Clock::now();
  std::string said;
  while (said.empty() && Clock::now() - begin < 20s) {
    group[0].turn();
    said = turn_without(group[1]);
  }
  CHECK(Clock::now() - begin >= 990ms);
  CHECK(said.find("no connection through ") == 0);
  CHECK(said.find(kWhy) != std::string::npos);
  CHECK(group[1].inbox.losses.empty());
}

TEST(who_gets_descriptors_in_time_connects) {
  for (const LinkKind kind : {LinkKind::tcp, LinkKind::shm}) {
    Group group(2, loopback(), kind);
    group[1].mesh->open(0);
    for (int i = 0; i < 20; ++i)
      CHECK(turn_without(group[1]).empty());
    CHECK(group.connect());
  }
}

} // namespace
