#include "io/permutation.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace thinwire {
namespace {

constexpr std::size_t kLanes = 16; // indices that go through the rounds together

// Of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
constexpr std::uint64_t kGamma = 0x9e3779b97f4a7c15;

std::uint64_t mix(std::uint64_t h) {
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9;
  h = (h ^ (h >> 27)) * 0x94d049bb133111eb;
  return h ^ (h >> 31);
}

// floor(h * radix / 2^64)
std::uint64_t scaled(std::uint64_t h, std::uint64_t radix) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(Wide{h} * radix >> 64);
}

std::uint64_t sum_modulo(std::uint64_t a, std::uint64_t b, std::uint64_t radix) {
  const std::uint64_t sum = a + b;
  return sum - (radix & -std::uint64_t{sum >= radix}); // a branch would often be mispredicted
}

std::uint64_t root_rounded_up(std::uint64_t size) {
  auto root = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(size)));
  while (root * root >= size)
    --root;
  while (root * root < size)
    ++root;
  return root;
}

} // namespace

Permutation::Permutation(std::uint64_t size, std::uint64_t key) : size_(size) {
  if (size == 0 || size > kLargest)
    throw InvalidArgument("a permutation of " + std::to_string(size) +
                          " indices does not exist; there are those of 1 to 2^62");
  low_radix_ = root_rounded_up(size);
  low_radix_ += low_radix_ % 2;
  high_radix_ = (size + low_radix_ - 1) / low_radix_;
  rounds_ = size < kFew ? kRoundsOfFew : kRounds;
  for (std::uint64_t& round_key : keys_)
    round_key = mix(key += kGamma);
}

void Permutation::take(std::uint64_t start, std::span<std::int64_t> out) const {
  if (start > size_ || out.size() > size_ - start)
    throw InvalidArgument("indices " + std::to_string(start) + " to " +
                          std::to_string(start + out.size()) + " are not all below the size, " +
                          std::to_string(size_));
  Pairs<kLanes> pairs;
  std::uint64_t low = start % low_radix_, high = start / low_radix_;
  for (std::size_t done = 0; done < out.size(); done += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      pairs.low[lane] = low;
      pairs.high[lane] = high;
      if (++low == low_radix_) {
        low = 0;
        ++high;
      }
    }
    add_hashes(pairs);
    const std::size_t count = std::min(kLanes, out.size() - done);
    for (std::size_t lane = 0; lane < count; ++lane)
      out[done + lane] = static_cast<std::int64_t>(walked(pairs.low[lane], pairs.high[lane]));
  }
}

template <std::size_t lanes> void Permutation::add_hashes(Pairs<lanes>& pairs) const {
  auto& [low, high] = pairs;
  for (std::size_t round = 0; round < rounds_; round += 2) {
    for (std::size_t lane = 0; lane < lanes; ++lane)
      low[lane] =
          sum_modulo(low[lane], scaled(mix(high[lane] ^ keys_[round]), low_radix_), low_radix_);
    for (std::size_t lane = 0; lane < lanes; ++lane)
      high[lane] = sum_modulo(high[lane], scaled(mix(low[lane] ^ keys_[round + 1]), high_radix_),
                              high_radix_);
  }
}

// The index of a pair; one beyond the size goes through the rounds until it is not.
std::uint64_t Permutation::walked(std::uint64_t low, std::uint64_t high) const {
  Pairs<1> pair = {{low}, {high}};
  for (;;) {
    const std::uint64_t index = pair.high[0] * low_radix_ + pair.low[0];
    if (index < size_)
      return index;
    add_hashes(pair);
  }
}

} // namespace thinwire
