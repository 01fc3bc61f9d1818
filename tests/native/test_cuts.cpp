// Chunks: every profile against a plain restatement of its rules, byte by byte, on every target,
// for any number of threads and any split of the stream; memory that ends where the data ends.
#include "check.hpp"
#include "chunk_data.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "dedup/chunker.hpp"
#include "dedup/gear.hpp"
#include "dispatch/boundary.hpp"
#include "hash/xxh3.hpp"

#include <algorithm>
#include <cmath>

namespace {

using namespace thinwire;
using data::Content;
using data::kContents;
using data::made;
using data::Memory;
using data::Random;

// The polynomial as a sum over its 32 words, each with the product of its factors.
std::uint16_t polynomial(const std::uint8_t* position) {
  std::uint16_t sum = 0;
  for (unsigned k = 0; k < 32; ++k) {
    unsigned word =
        position[-1 - 2 * static_cast<int>(k)] * 256u + position[-2 - 2 * static_cast<int>(k)];
    for (unsigned bit = 0; bit < 5; ++bit)
      if (k >> bit & 1)
        word = word * kBoundaryFactors[bit] % 65536;
    sum = static_cast<std::uint16_t>(sum + word);
  }
  return sum;
}

Ends native_ends(const Memory& data, const Profile& profile) {
  const unsigned bits = std::min(12u, static_cast<unsigned>(std::log2(profile.average)) - 2);
  Ends ends;
  std::size_t start = 0;
  for (std::size_t end = 1; end <= data.size(); ++end) {
    const std::size_t length = end - start;
    bool boundary = length == profile.max || end == data.size();
    const std::uint8_t* position = data.data() + end;
    if (!boundary && length >= profile.min &&
        polynomial(position) >> (16 - bits) == (1 << (bits - 1)) - 1) {
      const double hash = static_cast<double>(xxh3_64(position - 64, 64) >> 32) * 0x1p-32;
      const double wanted = std::exp2(bits) / static_cast<double>(profile.average);
      boundary = hash < (length < profile.average ? wanted / 4 : wanted * 4);
    }
    if (!boundary)
      continue;
    ends.push_back(static_cast<std::int64_t>(end));
    start = end;
  }
  return ends;
}

std::size_t fastcdc_length(const std::uint8_t* data, std::size_t size, const Profile& profile) {
  const std::size_t remaining = std::min<std::size_t>(size, profile.max);
  const auto bits = static_cast<unsigned>(std::floor(std::log2(profile.average) + 0.5));
  std::uint64_t hash = 0;
  for (std::size_t at = profile.min / 2 * 2; at < remaining / 2 * 2; ++at) {
    hash = (hash << 1) + kGear[data[at]];
    const bool strict = at < profile.average / 2 * 2;
    if ((hash & kGearMasks[bits + (strict ? 1 : -1u) - kFirstGearMask]) == 0)
      return at;
  }
  return remaining;
}

Ends fastcdc_ends(const Memory& data, const Profile& profile) {
  Ends ends;
  for (std::size_t start = 0; start < data.size();) {
    start += fastcdc_length(data.data() + start, data.size() - start, profile);
    ends.push_back(static_cast<std::int64_t>(start));
  }
  return ends;
}

Ends fixed_ends(const Memory& data, const Profile& profile) {
  Ends ends;
  for (std::size_t end = profile.average; end < data.size(); end += profile.average)
    ends.push_back(static_cast<std::int64_t>(end));
  if (data.size() != 0)
    ends.push_back(static_cast<std::int64_t>(data.size()));
  return ends;
}

Ends expected(const Memory& data, const Profile& profile) {
  switch (profile.cutting) {
  case Cutting::native:
    return native_ends(data, profile);
  case Cutting::fastcdc2020:
    return fastcdc_ends(data, profile);
  default:
    return fixed_ends(data, profile);
  }
}

// The stream in pieces of random sizes up to `piece`, each in memory of its own.
Ends in_pieces(const Memory& data, const Profile& profile, std::size_t piece,
               unsigned threads = 1) {
  const auto chunker = make_chunker(profile, threads);
  Random random(piece);
  Ends ends;
  for (std::size_t at = 0; at < data.size();) {
    Memory part(std::min(data.size() - at, random.below(piece + 1)), at % 3);
    std::copy_n(data.data() + at, part.size(), part.data());
    chunker->update(part.span(), ends);
    at += part.size();
  }
  chunker->finish(ends);
  return ends;
}

Ends at_once(Memory& data, const Profile& profile, unsigned threads) {
  const auto chunker = make_chunker(profile, threads);
  Ends ends;
  chunker->update(data.span(), ends);
  chunker->finish(ends);
  return ends;
}

std::vector<Profile> profiles() {
  return {Profile::make("native", 0, 256),
          Profile::make("native", 64, 1000, 1001),
          Profile::make("native", 700, 700, 700),
          Profile::make("native", 0, 16384),
          Profile::make("fastcdc2020", 0, 256),
          Profile::make("fastcdc2020", 101, 1001, 1031),
          Profile::make("fastcdc2020", 333, 700, 1500),
          Profile::make("fixed", 0, 333),
          Profile::make("aligned", 0, 64)};
}

void set_context(const Profile& profile, Content content, std::size_t size) {
  check::context = "algorithm " + std::to_string(static_cast<int>(profile.cutting)) + " sizes " +
                   std::to_string(profile.min) + "," + std::to_string(profile.average) + "," +
                   std::to_string(profile.max) + " content " +
                   std::to_string(static_cast<int>(content)) + " size " + std::to_string(size);
}

TEST(every_size_of_data) {
  for (const Profile& profile : profiles())
    for (const Content content : kContents)
      for (const std::size_t size : {0,   1,   63,  64,  65,  79,  80,  81,   143,  144,  145,
                                     160, 255, 256, 257, 699, 700, 701, 1024, 1031, 1032, 5000}) {
        set_context(profile, content, size);
        Memory data = made(content, size, size);
        CHECK(at_once(data, profile, 1) == expected(data, profile));
      }
}

TEST(targets_threads_and_pieces_do_not_matter) {
  for (const Profile& profile : profiles())
    for (const Content content : kContents) {
      set_context(profile, content, 40'000);
      Memory data = made(content, 40'000, 5, 1);
      const Ends ends = expected(data, profile);
      for (const Target target : available_targets()) {
        force_target(name(target));
        CHECK(at_once(data, profile, 1) == ends);
        for (const std::size_t piece : {1, 2, 100, 10'000})
          CHECK(in_pieces(data, profile, piece) == ends);
      }
      force_target("");
    }
}

TEST(threads_share_a_large_piece) {
  Memory data = made(Content::random, (4 << 20) + 77, 9);
  for (const Profile& profile :
       {Profile::make("native", 0, 256), Profile::make("native", 0, 16384)}) {
    const Ends ends = at_once(data, profile, 1);
    CHECK(ends.back() == static_cast<std::int64_t>(data.size()));
    CHECK(at_once(data, profile, 3) == ends);
    CHECK(in_pieces(data, profile, 3 << 20, 2) == ends);
  }
}

TEST(what_a_profile_cannot_be_is_named) {
  CHECK_THROWS(InvalidArgument, "no profile 'cdc'; there are native, fastcdc2020, fixed, aligned",
               Profile::make("cdc"));
  CHECK_THROWS(InvalidArgument, "average is 255; profile native takes 256 to 1073741824 bytes",
               Profile::make("native", 0, 255));
  CHECK_THROWS(InvalidArgument, "min is 63", Profile::make("native", 63));
  CHECK_THROWS(InvalidArgument, "min is 65537, the average 65536", Profile::make("native", 65537));
  CHECK_THROWS(InvalidArgument, "max is 65535, the average 65536",
               Profile::make("native", 0, 0, 65535));
  CHECK_THROWS(InvalidArgument, "max is 16777217",
               Profile::make("fastcdc2020", 0, 0, (16 << 20) + 1));
  CHECK_THROWS(InvalidArgument, "max is 9000", Profile::make("fixed", 0, 0, 9000));
}

} // namespace
