#include "dedup/profile.hpp"

#include "core/error.hpp"

#include <array>

namespace thinwire {
namespace {

constexpr std::uint64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;
constexpr std::uint64_t kDefaultAverage = 64 * kKiB;

struct Range {
  std::uint64_t from, to;
};

struct Entry {
  Cutting cutting;
  const char* name;
  bool varying; // chunks of more than one size
  Range min, average, max;
};

constexpr Range kBlocks = {64, kGiB};

constexpr std::array<Entry, 4> kEntries = {{
    {Cutting::native, "native", true, {64, kGiB}, {256, kGiB}, {256, 4 * kGiB}},
    // What pyfastcdc takes.
    {Cutting::fastcdc2020, "fastcdc2020", true, {64, kMiB}, {256, 4 * kMiB}, {kKiB, 16 * kMiB}},
    {Cutting::fixed, "fixed", false, kBlocks, kBlocks, kBlocks},
    {Cutting::aligned, "aligned", false, kBlocks, kBlocks, kBlocks},
}};

const Entry& entry_of(const std::string& name) {
  std::string known;
  for (const Entry& entry : kEntries) {
    if (name == entry.name)
      return entry;
    known += std::string(known.empty() ? "" : ", ") + entry.name;
  }
  throw InvalidArgument("there is no profile '" + name + "'; there are " + known);
}

void check(const Entry& entry, const char* parameter, const Range& range, std::uint64_t bytes) {
  if (bytes < range.from || bytes > range.to)
    throw InvalidArgument(std::string(parameter) + " is " + std::to_string(bytes) + "; profile " +
                          entry.name + " takes " + std::to_string(range.from) + " to " +
                          std::to_string(range.to) + " bytes");
}

void check_order(const Entry& entry, const Profile& p) {
  const auto fail = [&](const char* parameter, std::uint64_t bytes, const char* rule) {
    throw InvalidArgument(std::string(parameter) + " is " + std::to_string(bytes) +
                          ", the average " + std::to_string(p.average) + " bytes; " + rule);
  };
  constexpr const char* kOneSize = "blocks of one size have no other";
  if (!entry.varying && p.min != p.average)
    fail("min", p.min, kOneSize);
  if (!entry.varying && p.max != p.average)
    fail("max", p.max, kOneSize);
  if (p.min > p.average)
    fail("min", p.min, "it must not be larger");
  if (p.max < p.average)
    fail("max", p.max, "it must not be smaller");
}

} // namespace

Profile Profile::make(const std::string& name, std::uint64_t min, std::uint64_t average,
                      std::uint64_t max) {
  const Entry& entry = entry_of(name);
  const std::uint64_t spread = entry.varying ? 4 : 1; // of the defaults
  average = average != 0 ? average : kDefaultAverage;
  check(entry, "average", entry.average, average);
  const Profile made = {entry.cutting, min != 0 ? min : average / spread, average,
                        max != 0 ? max : average * spread};
  check(entry, "min", entry.min, made.min);
  check(entry, "max", entry.max, made.max);
  check_order(entry, made);
  return made;
}

} // namespace thinwire
