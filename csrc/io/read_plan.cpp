#include "io/read_plan.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <limits>
#include <string>

namespace thinwire {
namespace {

constexpr std::uint64_t kGreatestOffset = std::numeric_limits<std::int64_t>::max();
// Of one read of several records: less would mean more calls, more would leave threads idle.
constexpr std::uint64_t kMostMergedBytes = 1 << 20;

void check(const Places& places, std::size_t files) {
  for (std::size_t i = 0; i < places.files.size(); ++i) {
    if (places.files[i] >= files)
      throw InvalidArgument("record " + std::to_string(i) + " is in file " +
                            std::to_string(places.files[i]) + "; there are " +
                            std::to_string(files));
    if (places.offsets[i] > kGreatestOffset ||
        places.sizes[i] > kGreatestOffset - places.offsets[i])
      throw InvalidArgument("record " + std::to_string(i) + ", " + std::to_string(places.sizes[i]) +
                            " bytes at offset " + std::to_string(places.offsets[i]) +
                            ", ends where no file can");
  }
}

// Where a record lies: small, as sorting moves it about.
struct Place {
  std::uint64_t offset;
  std::uint32_t file;
  std::size_t record;
};

std::vector<Place> sorted_places(const Places& places) {
  std::vector<Place> sorted(places.files.size());
  for (std::size_t i = 0; i < sorted.size(); ++i)
    sorted[i] = {places.offsets[i], places.files[i], i};
  std::ranges::sort(sorted, [&](const Place& a, const Place& b) {
    if (a.file != b.file)
      return a.file < b.file;
    return a.offset != b.offset ? a.offset < b.offset
                                : places.sizes[a.record] < places.sizes[b.record];
  });
  return sorted;
}

std::vector<Record> sorted_records(const Request& request) {
  std::vector<Record> records;
  records.reserve(request.places.files.size());
  for (const auto& [offset, file, i] : sorted_places(request.places))
    records.push_back({.file = file,
                       .offset = offset,
                       .size = request.places.sizes[i],
                       .target = reinterpret_cast<std::byte*>(request.targets[i]),
                       .sum = request.sums.empty() ? 0 : request.sums[i],
                       .fault = &request.faults[i]});
  return records;
}

bool is_neighbour(const Record& record, const Record& next) {
  return next.file == record.file && next.offset >= record.end() &&
         next.offset - record.end() <= kGreatestGap;
}

// How many of the records, from the first on, one read fetches.
std::size_t merged(std::span<const Record> records) {
  std::size_t count = 1;
  while (count < std::min(records.size(), kMostRecords) &&
         is_neighbour(records[count - 1], records[count]) &&
         records[count].end() - records.front().offset <= kMostMergedBytes)
    ++count;
  return count;
}

} // namespace

std::unique_ptr<Batch> plan_reads(const Request& request, std::size_t files) {
  check(request.places, files);
  auto batch = std::make_unique<Batch>();
  batch->has_sums = !request.sums.empty();
  batch->records = sorted_records(request);
  batch->reads.reserve(batch->records.size());
  for (std::span<const Record> rest = batch->records; !rest.empty();) {
    const std::size_t count = merged(rest);
    batch->reads.emplace_back(*batch, rest.first(count));
    rest = rest.subspan(count);
  }
  batch->left = batch->reads.size();
  return batch;
}

std::vector<Hint> plan_hints(const Places& places, std::size_t files) {
  check(places, files);
  std::vector<Hint> hints;
  for (std::size_t i = 0; i < places.files.size(); ++i) {
    const std::uint64_t offset = places.offsets[i], end = offset + places.sizes[i];
    if (!hints.empty() && hints.back().file == places.files[i]) {
      Hint& last = hints.back();
      const std::uint64_t last_end = last.offset + last.bytes;
      if (offset >= last.offset && offset <= last_end + kGreatestGap) {
        last.bytes = std::max(end, last_end) - last.offset;
        continue;
      }
    }
    hints.push_back({places.files[i], offset, places.sizes[i]});
  }
  return hints;
}

} // namespace thinwire
