// Counters of records: in memory that ends where the records end, on every CPU target, with bytes
// of any kind.
#include "check.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "data.hpp"
#include "io/ragged_summary.hpp"
#include "io/record_summary.hpp"

#include <cmath>
#include <map>
#include <set>
#include <utility>

namespace {

using namespace thinwire;

data::Memory random_bytes(std::size_t length, std::uint64_t seed, std::size_t skew = 0) {
  data::Memory made(length, skew);
  data::Random random(seed);
  for (std::size_t i = 0; i < length; ++i)
    made.data()[i] = static_cast<std::uint8_t>(random.next());
  return made;
}

const std::byte* start(const data::Memory& memory) {
  return reinterpret_cast<const std::byte*>(memory.data());
}

std::uint64_t sum(const Histogram& bins) {
  std::uint64_t total = 0;
  for (const std::uint64_t count : bins)
    total += count;
  return total;
}

constexpr const char* kTypes[] = {"bool",    "int8",    "int16",   "int32",  "int64",
                                  "uint8",   "uint16",  "uint32",  "uint64", "float16",
                                  "float32", "float64", "bfloat16"};

TEST(every_type_and_layout_is_read_within_its_memory) {
  for (Target target : available_targets()) {
    force_target(name(target));
    for (const char* type_name : kTypes) {
      const ValueType type = value_type(type_name);
      for (std::size_t rows : {1, 3, 1025})
        for (std::size_t count : {1, 5, 8, 1031})
          for (std::size_t gap : {0, 3}) {
            check::context = std::string(name(target)) + ", " + type_name + ", " +
                             std::to_string(rows) + " by " + std::to_string(count);
            const std::size_t stride = count * value_bytes(type) + gap;
            const data::Memory memory = random_bytes(rows * stride - gap, rows + count, 1);
            FieldSummary summary;
            summary.add({start(memory), rows, stride, count}, type);
            const Counters& found = summary.counters();
            CHECK(found.values == rows * count);
            CHECK(found.values == found.moments.count + found.nan + found.positive_infinity +
                                      found.negative_infinity);
            CHECK(sum(summary.histogram()) == found.moments.count);
          }
    }
  }
  force_target("");
}

TEST(packed_and_spaced_values_are_counted_alike) {
  data::Memory packed = random_bytes(4 * 3000, 7), spaced(4 * 3000 * 2);
  for (std::size_t i = 0; i < 3000; ++i)
    std::memcpy(spaced.data() + 8 * i, packed.data() + 4 * i, 4);
  FieldSummary one, other;
  one.add({start(packed), 1, 0, 3000}, ValueType::fp32);
  other.add({start(spaced), 3000, 8, 1}, ValueType::fp32);
  CHECK(one.histogram() == other.histogram());
  CHECK(one.counters().moments.mean == other.counters().moments.mean);
  CHECK(one.counters().nan == other.counters().nan && one.counters().nan > 0);
}

TEST(values_at_the_edges_of_bins) {
  const double values[] = {1.0,    std::nextafter(2.0, 0.0), // rounds to 2 as fp32
                           2.0,    -2.0,
                           1e300,  -1e300,
                           1e-300, -1e-300};
  FieldSummary summary;
  summary.add(values, std::size(values));
  const Histogram bins = summary.histogram();
  constexpr std::size_t kOne = 127 << kBinMantissaBits, kTwo = 128 << kBinMantissaBits;
  constexpr std::size_t kGreatest = (255 << kBinMantissaBits) - 1;
  CHECK(bins[kOne] == 1 && bins[kTwo - 1] == 1 && bins[kTwo] == 1);
  CHECK(bins[kNegativeZeroBin + kTwo] == 1);
  CHECK(bins[kGreatest] == 1 && bins[kNegativeZeroBin + kGreatest] == 1);
  CHECK(bins[kZeroBin] == 2 && bins[kNegativeZeroBin] == 0);
}

TEST(parts_have_the_moments_of_the_whole) {
  Moments whole{4, 2.5, 5}, merged; // of 1, 2, 3, 4
  merged.merge({});
  merged.merge({1, 1, 0});
  merged.merge({3, 3, 2});
  CHECK(merged.count == whole.count);
  CHECK(std::fabs(merged.mean - whole.mean) < 1e-15);
  CHECK(std::fabs(merged.squares - whole.squares) < 1e-14);
}

TEST(copies_are_counted_until_the_limit_and_sampled_beyond) {
  constexpr std::size_t kRecords = 3000, kBytes = 8;
  data::Memory records(kRecords * kBytes);
  for (std::size_t i = 0; i < kRecords; ++i) {
    const std::uint64_t value = i % 2000;
    std::memcpy(records.data() + i * kBytes, &value, kBytes);
  }
  std::map<Xxh3Digest, std::uint64_t> all;
  for (std::size_t i = 0; i < kRecords; ++i)
    ++all[xxh3_128({start(records) + i * kBytes, kBytes})];
  for (std::size_t limit : {1, 2, 100, 1999, 2000, 5000}) {
    check::context = "limit " + std::to_string(limit);
    DistinctSample sample(limit);
    sample.add_rows(start(records), kRecords, kBytes, kBytes);
    const auto entries = sample.entries();
    CHECK(entries.size() <= limit);
    CHECK((sample.level() == 0) == (limit >= 2000));
    std::size_t expected = 0;
    for (const auto& [digest, times] : all)
      expected += sample.level() == 0 ||
                  std::to_integer<unsigned>(digest[0]) >> (8 - std::min(8u, sample.level())) == 0;
    CHECK(sample.level() > 8 || entries.size() == expected);
    for (const auto& entry : entries)
      CHECK(all[entry.digest] == entry.times);
  }
  CHECK_THROWS(InvalidArgument, "not 0", DistinctSample(0));
}

TEST(the_first_classes_are_kept) {
  data::Random random(1);
  ClassCounts counts(5);
  std::map<std::string, std::uint64_t> all;
  for (int i = 0; i < 4000; ++i) {
    const std::string key(1 + random.below(2), static_cast<char>('a' + random.below(9)));
    ++all[key];
    counts.add(key);
  }
  std::uint64_t others = 4000;
  auto expected = all.begin();
  CHECK(counts.entries().size() == 5);
  for (const auto& entry : counts.entries()) {
    CHECK(entry.key == expected->first && entry.times == expected->second);
    others -= (expected++)->second;
  }
  CHECK(counts.others() == others);
}

std::string kinds_of(const std::string& line) {
  std::vector<JsonMember> members;
  data::Memory exact(line.size());
  std::memcpy(exact.data(), line.data(), line.size());
  if (!parse_json_line({reinterpret_cast<const char*>(exact.data()), exact.size()}, members))
    return "malformed";
  std::string found;
  for (const JsonMember& member : members)
    found += "nsb0["[static_cast<std::size_t>(member.kind)];
  return found;
}

TEST(lines_of_json) {
  CHECK(kinds_of("{}") == "");
  CHECK(kinds_of(R"( {"a" : -1.5e+3 , "b":"\"","c":true,"d":null,"e":[{"x":"]}"},[]]} )") ==
        "nsb0[");
  for (const char* bad : {"",
                          "{",
                          "[]",
                          "{,}",
                          R"({"a"})",
                          R"({"a":})",
                          R"({"a":1,})",
                          R"({"a":1}x)",
                          R"({"a":01})",
                          R"({"a":-})",
                          R"({"a":1.})",
                          R"({"a":1e})",
                          R"({"a":tru})",
                          R"({"a":"x)",
                          R"({"a":"\)",
                          R"({"a":[})",
                          R"({"a":[1})",
                          R"({"a":[{]}})",
                          "{\"a\":\"\n\"}",
                          R"({a:1})"}) {
    check::context = bad;
    CHECK(kinds_of(bad) == "malformed");
  }
}

TEST(random_text_is_read_within_its_memory) {
  constexpr char kLetters[] = "{}[]\":,\\0123.eE+-tfn aurlse";
  data::Random random(3);
  for (int round = 0; round < 20'000; ++round) {
    std::string line = round % 2 ? R"({"a":)" : "{";
    for (std::size_t left = random.below(24); left > 0; --left)
      line += kLetters[random.below(sizeof kLetters - 1)];
    kinds_of(line);
  }
  CHECK(true);
}

TEST(ragged_records_and_their_offsets) {
  const std::string text = "{\"a\": 1}\n{\"a\": 2}\r\n{\"a\": 1}bad";
  data::Memory memory(text.size());
  std::memcpy(memory.data(), text.data(), text.size());
  RaggedSummary summary({.distinct = 10, .names = 4, .label = "a", .classes = 3});
  const std::int64_t offsets[] = {0, 9, 19, 27, 30};
  summary.add(start(memory), offsets);
  CHECK(summary.records() == 4 && summary.malformed() == 1);
  CHECK(summary.distinct()->entries().size() == 3);
  CHECK(summary.classes()->entries().size() == 2);
  CHECK(summary.json()->by_name().at("a").numbers == 3);
  const std::int64_t falling[] = {0, 9, 8};
  CHECK_THROWS(InvalidArgument, "falls from 9 to 8", summary.add(start(memory), falling));
  CHECK_THROWS(InvalidArgument, "begins", summary.add(start(memory), {}));
}

} // namespace
