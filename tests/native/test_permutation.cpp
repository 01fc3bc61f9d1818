// The permutation: bijective, equal however it is taken, different by key, refusing what lies
// beyond.
#include "check.hpp"
#include "core/error.hpp"
#include "io/permutation.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace {

using namespace thinwire;
using Indices = std::vector<std::int64_t>;

Indices taken(const Permutation& permutation, std::uint64_t start, std::size_t count) {
  Indices out(count);
  permutation.take(start, out);
  return out;
}

TEST(every_index_comes_once) {
  for (std::uint64_t size = 1; size < 700; ++size)
    for (std::uint64_t key = 0; key < 5; ++key) {
      check::context = "size " + std::to_string(size) + " key " + std::to_string(key);
      Indices found = taken(Permutation(size, key), 0, size);
      std::sort(found.begin(), found.end());
      Indices wanted(size);
      std::iota(wanted.begin(), wanted.end(), 0);
      CHECK(found == wanted);
    }
}

TEST(parts_are_those_of_the_whole) {
  const Permutation permutation(1000, 7);
  const Indices whole = taken(permutation, 0, 1000);
  for (std::size_t start = 0; start <= 1000; start += 37)
    for (std::size_t count = 0; start + count <= 1000; count += 41)
      CHECK(std::ranges::equal(taken(permutation, start, count),
                               std::span(whole).subspan(start, count)));
}

TEST(sizes_up_to_the_largest) {
  for (const std::uint64_t size :
       {std::uint64_t{1} << 31, (std::uint64_t{1} << 32) + 1, std::uint64_t{10'000'000'000},
        Permutation::kLargest - 1, Permutation::kLargest}) {
    const Permutation permutation(size, 3);
    for (const std::uint64_t start : {std::uint64_t{0}, size / 2, size - 1000}) {
      Indices found = taken(permutation, start, 1000);
      std::sort(found.begin(), found.end());
      CHECK(std::adjacent_find(found.begin(), found.end()) == found.end());
      CHECK(found.front() >= 0 && static_cast<std::uint64_t>(found.back()) < size);
    }
  }
}

TEST(keys_give_other_orders) {
  const Indices first = taken(Permutation(1000, 1), 0, 1000);
  const Indices second = taken(Permutation(1000, 2), 0, 1000);
  int equal = 0;
  for (std::size_t i = 0; i < 1000; ++i)
    equal += first[i] == second[i];
  CHECK(equal < 10);
}

TEST(what_lies_beyond_is_refused) {
  CHECK_THROWS(InvalidArgument, "1 to 2^62", Permutation(0, 0));
  CHECK_THROWS(InvalidArgument, "1 to 2^62", Permutation(Permutation::kLargest + 1, 0));
  CHECK_THROWS(InvalidArgument, "below the size, 5", taken(Permutation(5, 0), 3, 3));
  CHECK_THROWS(InvalidArgument, "below the size, 5",
               taken(Permutation(5, 0), ~std::uint64_t{0}, 1));
  CHECK(taken(Permutation(5, 0), 5, 0).empty());
}

} // namespace
